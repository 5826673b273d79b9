package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"k8s.io/client-go/tools/remotecommand"
)

// held: sessions whose client takes one piece of what it is sent and then nothing, and sends more than is taken. Says how
// many there are once each has heard something, and keeps them until this program's input ends.
func held(ctx context.Context, o options, s *source) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hold := s.holdExec
	if o.port != 0 {
		hold = s.holdForward
	}
	heard, failed := make(chan struct{}, o.count), make(chan error, o.count)
	for range o.count {
		go func() { failed <- hold(ctx, &deaf{heard: heard, over: ctx.Done()}) }()
	}
	for range o.count {
		select {
		case <-heard:
		case err := <-failed:
			return fmt.Errorf("a session ended: %w", err)
		}
	}
	fmt.Println(o.count)
	io.Copy(io.Discard, os.Stdin)
	select {
	case err := <-failed:
		return fmt.Errorf("a session ended: %w", err)
	default:
		return nil
	}
}

// deaf takes one piece.
type deaf struct {
	once  sync.Once
	heard chan<- struct{}
	over  <-chan struct{}
}

func (d *deaf) Write([]byte) (int, error) {
	d.once.Do(func() { d.heard <- struct{}{} })
	<-d.over
	return 0, errors.New("it is over")
}

func (s *source) holdExec(ctx context.Context, stdout *deaf) error {
	executor, err := s.executor(ctx, "exec", streams{stdin: true, stdout: true})
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: zeros{}, Stdout: stdout})
}

func (s *source) holdForward(ctx context.Context, into *deaf) error {
	session, err := s.session(ctx)
	if err != nil {
		return err
	}
	defer session.connection.Close()
	pair, err := session.connect()
	if err != nil {
		return err
	}
	go func() {
		fmt.Fprint(pair.data, "GET /large HTTP/1.0\r\n\r\n")
		io.Copy(pair.data, zeros{})
	}()
	_, err = io.Copy(into, pair.data)
	return err
}
