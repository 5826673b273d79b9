package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// hold: `count` running containers, `inPod` in a pod, kept until the input ends. At each mark it waits for a line.
func (n *node) hold(ctx context.Context) (samples, error) {
	marks, err := numbers(n.marks)
	if err != nil {
		return nil, err
	}
	input := bufio.NewReader(os.Stdin)
	var pods []*pod
	err = func() error {
		for i := range n.count {
			if i%n.inPod == 0 {
				pod, err := n.newPod(ctx)
				if err != nil {
					return err
				}
				pods = append(pods, pod)
			}
			if err := n.createAndStart(ctx, pods[len(pods)-1]); err != nil {
				return err
			}
			if slices.Contains(marks, i+1) {
				fmt.Println("{}")
				if _, err := input.ReadString('\n'); err != nil {
					return err
				}
			}
		}
		fmt.Println("{}")
		_, err := io.Copy(io.Discard, input)
		return err
	}()
	return samples{}, errors.Join(err, removeAll(ctx, pods))
}

func numbers(text string) (found []int, err error) {
	for word := range strings.SplitSeq(text, ",") {
		if word == "" {
			continue
		}
		number, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("--mark %s: %w", text, err)
		}
		found = append(found, number)
	}
	return found, nil
}

// growth: `count` pods with a container each, one after another, all of which stay until the last one is there.
func (n *node) growth(ctx context.Context) (samples, error) {
	s := samples{}
	var pods []*pod
	err := func() error {
		for range n.count {
			var made *pod
			err := s.time("RunPodSandbox", func() (err error) { made, err = n.newPod(ctx); return })
			if err != nil {
				return err
			}
			pods = append(pods, made)
			if err := s.time("Create + Start", func() error { return n.createAndStart(ctx, made) }); err != nil {
				return err
			}
		}
		return nil
	}()
	return s, errors.Join(err, removeAll(ctx, pods))
}

// lives: pods made and removed, one after another; each figure is a whole life.
func (n *node) lives(ctx context.Context) (samples, error) {
	s := samples{}
	for range n.count {
		err := s.time("a pod's life", func() error {
			made, err := n.newPod(ctx)
			if err != nil {
				return err
			}
			return errors.Join(made.stop(ctx), made.remove(ctx))
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func removeAll(ctx context.Context, pods []*pod) error {
	return together(len(pods), func(i int) error {
		if pods[i] == nil {
			return nil
		}
		return errors.Join(pods[i].stop(ctx), pods[i].remove(ctx))
	})
}
