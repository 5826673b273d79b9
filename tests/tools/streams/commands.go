package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/tools/remotecommand"
)

// passThrough: this program's own streams are the command's.
func passThrough(ctx context.Context, verb string, o options, s *source) error {
	want := streams{stdin: !o.noStdin, stdout: true, stderr: !o.tty, tty: o.tty}
	executor, err := s.executor(ctx, verb, want)
	if err != nil {
		return err
	}
	with := remotecommand.StreamOptions{Stdout: os.Stdout, Tty: o.tty}
	if want.stdin {
		with.Stdin = os.Stdin
	}
	if want.stderr {
		with.Stderr = os.Stderr
	}
	if want.tty {
		terminal, err := openTerminal()
		if err != nil {
			return err
		}
		defer terminal.restore()
		with.TerminalSizeQueue = terminal
	}
	return executor.StreamWithContext(ctx, with)
}

// printURL asks for an exec, and leaves it to others.
func printURL(ctx context.Context, s *source) error {
	found, err := s.command(ctx, "exec", streams{stdout: true})
	if err == nil {
		fmt.Println(found)
	}
	return err
}

// count gives how much a command writes to stdout.
func (s *source) count(ctx context.Context, stdout *meter) error {
	if s.transport == "raw" {
		return s.rawRun(ctx, stdout)
	}
	return s.run(ctx, stdout)
}

// run gives what a command writes to stdout.
func (s *source) run(ctx context.Context, stdout io.Writer) error {
	executor, err := s.executor(ctx, "exec", streams{stdout: true})
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: stdout})
}

// tally counts what went well, and keeps the first failures in words.
type tally struct {
	lock     sync.Mutex
	Done     int      `json:"done"`
	Failed   int      `json:"failed"`
	Failures []string `json:"failures"`
}

func (t *tally) add(err error) {
	t.lock.Lock()
	defer t.lock.Unlock()
	if err == nil {
		t.Done++
		return
	}
	t.Failed++
	if len(t.Failures) < 5 {
		t.Failures = append(t.Failures, err.Error())
	}
}

// join adds what another has counted.
func (t *tally) join(other *tally) {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.Done += other.Done
	t.Failed += other.Failed
	t.Failures = append(t.Failures, other.Failures...)
}

// many does work `count` times, so many at once.
func many(count, atOnce int, work func() error) *tally {
	t := &tally{Failures: []string{}}
	turns := make(chan struct{}, count)
	for range count {
		turns <- struct{}{}
	}
	close(turns)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for range turns {
				t.add(work())
			}
		})
	}
	all.Wait()
	return t
}

func execs(ctx context.Context, o options, s *source) (*tally, error) {
	return many(o.count, o.atOnce, func() error {
		var said bytes.Buffer
		if err := s.run(ctx, &said); err != nil {
			return err
		}
		if said.String() != "hello\n" {
			return fmt.Errorf("it said %q", said.String())
		}
		return nil
	}), nil
}

// meter counts bytes and knows when the first came.
type meter struct {
	count int64
	first time.Time
}

func (m *meter) Write(data []byte) (int, error) {
	if m.count == 0 {
		m.first = time.Now()
	}
	m.count += int64(len(data))
	return len(data), nil
}

// times are nanoseconds.
type times []int64

// each does work `count` times, and takes one time of each.
func each(count int, work func(*meter) error, took func(start time.Time, m meter) time.Duration) (times, error) {
	var all times
	for range count {
		var m meter
		start := time.Now()
		if err := work(&m); err != nil {
			return nil, err
		}
		all = append(all, took(start, m).Nanoseconds())
	}
	return all, nil
}

// whole is how long all took.
func whole(start time.Time, _ meter) time.Duration { return time.Since(start) }

// toFirst is how long the first byte took.
func toFirst(start time.Time, m meter) time.Duration { return m.first.Sub(start) }

// exactly so many bytes must have come.
func (m *meter) exactly(bytes int64) error {
	if m.count != bytes {
		return fmt.Errorf("%d bytes came, not %d", m.count, bytes)
	}
	return nil
}

func rateOfExec(ctx context.Context, o options, s *source) (times, error) {
	return each(o.count, func(m *meter) error {
		if err := s.count(ctx, m); err != nil {
			return err
		}
		return m.exactly(o.bytes)
	}, whole)
}

func firstOfExec(ctx context.Context, o options, s *source) (times, error) {
	return each(o.count, func(m *meter) error { return s.count(ctx, m) }, toFirst)
}
