package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// probes: exec probes in `count` containers for a span. Before and after it says so on a line and awaits one, so that
// others can look at their clocks.
func (n *node) probes(ctx context.Context) (samples, error) {
	pods, ids, err := n.running(ctx)
	if err == nil {
		err = n.pausedBy("probes begin")
	}
	s := samples{}
	used := ownTime()
	if err == nil {
		err = n.probe(ctx, s, ids)
	}
	s["client's processor time"] = []int64{ownTime() - used}
	if err == nil {
		err = n.pausedBy("probes end")
	}
	return s, errors.Join(err, removeAll(ctx, pods))
}

// running: `count` containers, each in a pod of its own.
func (n *node) running(ctx context.Context) (pods []*pod, ids []string, err error) {
	for range n.count {
		made, err := n.newPod(ctx)
		if err != nil {
			return pods, nil, err
		}
		pods = append(pods, made)
		id, err := made.create(ctx, obeys)
		if err == nil {
			err = n.start(ctx, id)
		}
		if err != nil {
			return pods, nil, err
		}
		ids = append(ids, id)
	}
	return pods, ids, nil
}

func (n *node) pausedBy(line string) error {
	fmt.Println(line)
	_, err := os.Stdin.Read(make([]byte, 1))
	return err
}

// probe: as many workers as probes a second, each of which asks once a second, and passes a turn over while it waits: so
// does a kubelet.
func (n *node) probe(ctx context.Context, s samples, ids []string) error {
	asking, over := context.WithTimeout(ctx, n.span)
	defer over()
	each := make([]samples, n.eachSecond)
	began := time.Now()
	err := together(n.eachSecond, func(i int) error {
		each[i] = samples{}
		time.Sleep(time.Second * time.Duration(i) / time.Duration(n.eachSecond))
		turns := time.NewTicker(time.Second)
		defer turns.Stop()
		for asking.Err() == nil {
			if err := each[i].time("ExecSync", func() error { return n.exec(ctx, ids[i%len(ids)]) }); err != nil {
				return err
			}
			select {
			case <-turns.C:
			case <-asking.Done():
			}
		}
		return nil
	})
	s["span"] = []int64{time.Since(began).Nanoseconds()}
	for _, one := range each {
		s["ExecSync"] = append(s["ExecSync"], one["ExecSync"]...)
	}
	return err
}

// ownTime is the processor time that this client has used, ns.
func ownTime() int64 {
	var used syscall.Rusage
	// It cannot fail for a process itself.
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return used.Utime.Nano() + used.Stime.Nano()
}
