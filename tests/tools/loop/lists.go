package main

import (
	"context"
	"fmt"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// lists: what a kubelet asks again and again, among all that is there.
func (n *node) lists(ctx context.Context) (samples, error) {
	s := samples{}
	for range n.count {
		if err := n.look(ctx, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (n *node) look(ctx context.Context, s samples) error {
	var containers []*cri.Container
	var pods []*cri.PodSandbox
	steps := []struct {
		name string
		work func() error
	}{
		{"ListContainers", func() (err error) { containers, err = n.listed(ctx, nil); return }},
		{"ListPodSandbox", func() error {
			answer, err := n.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
			pods = answer.GetItems()
			return err
		}},
		{"ContainerStatus", func() error {
			request := &cri.ContainerStatusRequest{ContainerId: containers[len(containers)/2].Id}
			_, err := n.runtime.ContainerStatus(ctx, request)
			return err
		}},
		{"PodSandboxStatus", func() error {
			request := &cri.PodSandboxStatusRequest{PodSandboxId: pods[len(pods)/2].Id}
			_, err := n.runtime.PodSandboxStatus(ctx, request)
			return err
		}},
	}
	for _, step := range steps {
		time.Sleep(n.pause)
		if err := s.time(step.name, step.work); err != nil {
			return err
		}
		if len(containers) < max(n.among, 1) {
			return fmt.Errorf("%d containers are listed of at least %d", len(containers), max(n.among, 1))
		}
	}
	return nil
}

func (n *node) listed(ctx context.Context, filter *cri.ContainerFilter) ([]*cri.Container, error) {
	answer, err := n.runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: filter})
	return answer.GetContainers(), err
}

// ready: asks until the runtime says that it and its network are ready and that `among` containers run.
func (n *node) ready(ctx context.Context) (samples, error) {
	fmt.Println("{}")
	for {
		if n.isReady(ctx) {
			return samples{}, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		time.Sleep(time.Millisecond)
	}
}

// isReady takes each refusal for "not yet": there may be no socket.
func (n *node) isReady(ctx context.Context) bool {
	answer, err := n.runtime.Status(ctx, &cri.StatusRequest{})
	if err != nil {
		return false
	}
	for _, condition := range answer.Status.Conditions {
		if (condition.Type == "RuntimeReady" || condition.Type == "NetworkReady") && !condition.Status {
			return false
		}
	}
	running := &cri.ContainerFilter{State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}}
	found, err := n.listed(ctx, running)
	return err == nil && len(found) >= n.among
}
