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
// many there are once each has heard something, and keeps them until this program's input ends. Of port-forward each may
// have several connections, of which the first is waited for.
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
	// All are there before the first sends: what is sent for one stands before what is sent for another.
	pairs := make([]*pair, s.pairs)
	for at := range pairs {
		if pairs[at], err = session.connect(); err != nil {
			return err
		}
	}
	failed := make(chan error, s.pairs)
	for _, pair := range pairs {
		go func() {
			fmt.Fprint(pair.data, "GET /large HTTP/1.0\r\n\r\n")
			io.Copy(pair.data, zeros{})
		}()
		go func() {
			_, err := io.Copy(into, pair.data)
			failed <- err
		}()
	}
	return <-failed
}
