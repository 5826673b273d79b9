package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// events: how long after a container's end, and after its Start was answered, GetContainerEvents tells of it.
func (n *node) events(ctx context.Context) (samples, error) {
	pod, err := n.newPod(ctx)
	if err != nil {
		return nil, err
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := n.runtime.GetContainerEvents(watching, &cri.GetEventsRequest{})
	if err != nil {
		return nil, errors.Join(err, pod.remove(ctx))
	}
	seen := make(chan told, 64)
	go tell(stream, seen)
	s := samples{}
	for range n.count {
		time.Sleep(n.pause)
		if err := n.told(ctx, s, pod, seen); err != nil {
			return nil, errors.Join(err, pod.remove(ctx))
		}
	}
	return s, pod.remove(ctx)
}

// told is an event, and when it came.
type told struct {
	event *cri.ContainerEventResponse
	at    time.Time
}

func tell(stream cri.RuntimeService_GetContainerEventsClient, seen chan<- told) {
	defer close(seen)
	for {
		event, err := stream.Recv()
		if err != nil {
			return
		}
		seen <- told{event, time.Now()}
	}
}

// told times the events of one container: its start from the call, its end from the signal.
func (n *node) told(ctx context.Context, s samples, pod *pod, seen <-chan told) error {
	id, err := pod.create(ctx, obeys)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := n.start(ctx, id); err != nil {
		return err
	}
	if err := awaitEvent(s, seen, id, cri.ContainerEventType_CONTAINER_STARTED_EVENT, began); err != nil {
		return err
	}
	pid, err := n.pid(ctx, id)
	if err != nil {
		return err
	}
	began = time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %d: %w", pid, err)
	}
	if err := awaitEvent(s, seen, id, cri.ContainerEventType_CONTAINER_STOPPED_EVENT, began); err != nil {
		return err
	}
	_, err = n.runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
	return err
}

func awaitEvent(s samples, seen <-chan told, id string, kind cri.ContainerEventType, began time.Time) error {
	late := time.After(10 * time.Second)
	for {
		select {
		case one, open := <-seen:
			if !open {
				return errors.New("the stream of events has ended")
			}
			if one.event.ContainerId == id && one.event.ContainerEventType == kind {
				s[kind.String()] = append(s[kind.String()], one.at.Sub(began).Nanoseconds())
				return nil
			}
		case <-late:
			return fmt.Errorf("no %s of %s within 10 s", kind, id)
		}
	}
}

// pid of a container's first process, as a runtime tells it to whoever wants all of it.
func (n *node) pid(ctx context.Context, id string) (int, error) {
	request := &cri.ContainerStatusRequest{ContainerId: id, Verbose: true}
	answer, err := n.runtime.ContainerStatus(ctx, request)
	if err != nil {
		return 0, err
	}
	var info struct{ Pid int }
	if err := json.Unmarshal([]byte(answer.Info["info"]), &info); err != nil || info.Pid == 0 {
		return 0, fmt.Errorf("the status of %s has no pid: %v in %.200s", id, err, answer.Info["info"])
	}
	return info.Pid, nil
}
