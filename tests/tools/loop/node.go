package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A program that obeys SIGTERM as the first process of its namespace.
const obeys = "trap 'exit 0' TERM; sleep 1000 & wait"

const (
	firstPort = 21000
	grace     = 10
)

type node struct {
	options
	connection *grpc.ClientConn
	runtime    cri.RuntimeServiceClient
	lock       sync.Mutex
	made       int
}

func connect(o options) (*node, error) {
	// `ready` is there before the runtime: it must not rest for long between two tries.
	soon := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1, MaxDelay: time.Millisecond},
		MinConnectTimeout: 20 * time.Second,
	}
	// A list of a thousand containers is larger than the default.
	large := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16 << 20))
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	connection, err := grpc.NewClient(o.endpoint, plain, large, grpc.WithConnectParams(soon))
	if err != nil {
		return nil, err
	}
	return &node{options: o, connection: connection, runtime: cri.NewRuntimeServiceClient(connection)}, nil
}

func (n *node) close() { n.connection.Close() }

// images: the list of all images, again and again, whatever there is.
func (n *node) images(ctx context.Context) (samples, error) {
	s := samples{}
	service := cri.NewImageServiceClient(n.connection)
	for range n.count {
		time.Sleep(n.pause)
		var listed *cri.ListImagesResponse
		err := s.time("ListImages", func() (err error) {
			listed, err = service.ListImages(ctx, &cri.ListImagesRequest{})
			return
		})
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(os.Stderr, len(listed.Images), "images")
	}
	return s, nil
}

// containers: the life of one container after another, in one pod.
func (n *node) containers(ctx context.Context) (samples, error) {
	s := samples{}
	pod, err := n.newPod(ctx)
	if err != nil {
		return nil, err
	}
	for range n.count {
		if err := n.container(ctx, s, pod); err != nil {
			return nil, errors.Join(err, pod.remove(ctx))
		}
	}
	return s, pod.remove(ctx)
}

func (n *node) container(ctx context.Context, s samples, pod *pod) error {
	var id string
	steps := []struct {
		name string
		work func() error
	}{
		{"CreateContainer", func() (err error) { id, err = pod.create(ctx, obeys); return }},
		{"StartContainer", func() error { return n.start(ctx, id) }},
		{"ExecSync", func() error { return n.exec(ctx, id) }},
		{"ContainerStatus", func() error {
			_, err := n.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
			return err
		}},
		{"StopContainer", func() error {
			_, err := n.runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: grace})
			return err
		}},
		{"RemoveContainer", func() error {
			_, err := n.runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
			return err
		}},
	}
	for _, step := range steps {
		time.Sleep(n.pause)
		if err := s.time(step.name, step.work); err != nil {
			return err
		}
	}
	both := s["CreateContainer"][len(s["CreateContainer"])-1] + s["StartContainer"][len(s["StartContainer"])-1]
	s["Create + Start"] = append(s["Create + Start"], both)
	return nil
}

// pods: the life of one pod after another.
func (n *node) pods(ctx context.Context) (samples, error) {
	s := samples{}
	for range n.count {
		var made *pod
		steps := []struct {
			name string
			work func() error
		}{
			{"RunPodSandbox", func() (err error) { made, err = n.newPod(ctx); return }},
			{"StopPodSandbox", func() error { return made.stop(ctx) }},
			{"RemovePodSandbox", func() error { return made.remove(ctx) }},
		}
		for _, step := range steps {
			time.Sleep(n.pause)
			if err := s.time(step.name, step.work); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// parallel: `count` pods at once, then a container in each at once; each figure is until the last one is there.
func (n *node) parallel(ctx context.Context) (samples, error) {
	s := samples{}
	pods := make([]*pod, n.count)
	err := s.time(fmt.Sprintf("%d pods at once", n.count), func() error {
		return together(n.count, func(i int) (err error) { pods[i], err = n.newPod(ctx); return })
	})
	if err == nil {
		err = s.time(fmt.Sprintf("%d Create + Start at once", n.count), func() error {
			return together(n.count, func(i int) error { return n.createAndStart(ctx, pods[i]) })
		})
	}
	return s, errors.Join(err, removeAll(ctx, pods))
}

func (n *node) createAndStart(ctx context.Context, pod *pod) error {
	id, err := pod.create(ctx, obeys)
	if err != nil {
		return err
	}
	return n.start(ctx, id)
}

func (n *node) start(ctx context.Context, id string) error {
	_, err := n.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id})
	return err
}

func (n *node) exec(ctx context.Context, id string) error {
	request := &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"/bin/true"}, Timeout: grace}
	done, err := n.runtime.ExecSync(ctx, request)
	if err == nil && done.ExitCode != 0 {
		err = fmt.Errorf("true ended with %d: %s", done.ExitCode, done.Stderr)
	}
	return err
}

// number gives each object of this run another one.
func (n *node) number() int {
	n.lock.Lock()
	defer n.lock.Unlock()
	n.made++
	return n.made
}

// together runs work(0) … work(count-1) at once, and waits for all.
func together(count int, work func(int) error) error {
	failures := make([]error, count)
	var all sync.WaitGroup
	for i := range count {
		all.Go(func() { failures[i] = work(i) })
	}
	all.Wait()
	return errors.Join(failures...)
}
