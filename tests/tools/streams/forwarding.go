package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/tools/portforward"
)

// forward listens as kubectl does, until this program's input ends.
func forward(ctx context.Context, o options, s *source) error {
	forwarder, stop, ended, err := listen(ctx, o, s)
	if err != nil {
		return err
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		return err
	}
	fmt.Println(ports[0].Local)
	io.Copy(io.Discard, os.Stdin)
	close(stop)
	return <-ended
}

func listen(ctx context.Context, o options, s *source) (*portforward.PortForwarder, chan struct{}, chan error, error) {
	dialer, err := s.dialer(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	ports := []string{}
	for _, port := range []int{o.port, o.resetting, o.counting} {
		if port != 0 {
			ports = append(ports, fmt.Sprintf("0:%d", port))
		}
	}
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, ports, stop, ready, os.Stderr, os.Stderr)
	if err != nil {
		return nil, nil, nil, err
	}
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
		return forwarder, stop, ended, nil
	case err := <-ended:
		return nil, nil, nil, err
	}
}

// session is one port-forward session; its pairs of streams are its connections.
type session struct {
	connection httpstream.Connection
	port       string
	last       atomic.Int64
}

// pair is one forwarded connection.
type pair struct {
	session        *session
	data, failures httpstream.Stream
}

func (s *session) connect() (*pair, error) {
	headers := http.Header{}
	headers.Set("streamType", "error")
	headers.Set("port", s.port)
	headers.Set("requestID", strconv.FormatInt(s.last.Add(1), 10))
	failures, err := s.connection.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("the error stream: %w", err)
	}
	failures.Close()
	headers.Set("streamType", "data")
	data, err := s.connection.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("the data stream: %w", err)
	}
	return &pair{s, data, failures}, nil
}

// close gives what the other side said of an error.
func (p *pair) close() error {
	defer p.session.connection.RemoveStreams(p.data, p.failures)
	defer p.data.Reset()
	p.data.Close()
	said, err := io.ReadAll(p.failures)
	if err != nil {
		return err
	}
	if len(said) > 0 {
		return fmt.Errorf("the other side: %s", said)
	}
	return nil
}

// get asks for a page, and reads all of it into `into`.
func (p *pair) get(path string, into io.Writer) error {
	if _, err := fmt.Fprintf(p.data, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReaderSize(p.data, 1<<16), nil)
	if err != nil {
		return fmt.Errorf("the answer: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer: %s", answer.Status)
	}
	_, err = io.Copy(into, answer.Body)
	return err
}

func (s *session) page(path string, into io.Writer) error {
	pair, err := s.connect()
	if err != nil {
		return err
	}
	failed := pair.get(path, into)
	if said := pair.close(); said != nil {
		return errors.Join(failed, said)
	}
	return failed
}

func connections(ctx context.Context, o options, s *source) (*tally, error) {
	session, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	defer session.connection.Close()
	return many(o.count, o.atOnce, func() error { return session.page("/", io.Discard) }), nil
}

// sessions: each has one connection.
func sessions(ctx context.Context, o options, s *source) (*tally, error) {
	return many(o.count, o.atOnce, func() error {
		session, err := s.session(ctx)
		if err != nil {
			return err
		}
		defer session.connection.Close()
		return session.page("/", io.Discard)
	}), nil
}

// listening is a listener as kubectl's while it is used; `ports` has the local address of each of the pod's.
func listening(ctx context.Context, o options, s *source, use func(ports map[int]string, outcome *tally)) (*tally, error) {
	forwarder, stop, ended, err := listen(ctx, o, s)
	if err != nil {
		return nil, err
	}
	forwarded, err := forwarder.GetPorts()
	if err != nil {
		return nil, err
	}
	ports := map[int]string{}
	for _, one := range forwarded {
		ports[int(one.Remote)] = fmt.Sprintf("127.0.0.1:%d", one.Local)
	}
	outcome := &tally{Failures: []string{}}
	use(ports, outcome)
	close(stop)
	if err := <-ended; err != nil {
		outcome.add(err)
	}
	return outcome, nil
}

// resets: clients that reset in the middle, and a pod that does; the session must outlive them, and a connection that
// was there before.
func resets(ctx context.Context, o options, s *source) (*tally, error) {
	return listening(ctx, o, s, func(ports map[int]string, outcome *tally) {
		storm := func() {
			outcome.join(many(o.count, o.atOnce, func() error { return reset(ports[o.port]) }))
			if o.resetting != 0 {
				outcome.join(many(o.count, o.atOnce, func() error { return provoke(ports[o.resetting]) }))
			}
		}
		if o.counting != 0 {
			outcome.add(counted(ports[o.counting], o.bytes, storm))
		} else {
			storm()
		}
		client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		for range 5 {
			outcome.add(fetch(client, "http://"+ports[o.port]+"/"))
		}
	})
}

// counts: connections that end their own direction, and then hear how much they have said.
func counts(ctx context.Context, o options, s *source) (*tally, error) {
	return listening(ctx, o, s, func(ports map[int]string, outcome *tally) {
		outcome.join(many(o.count, o.atOnce, func() error { return counted(ports[o.counting], o.bytes, func() {}) }))
	})
}

// counted says so many bytes to who counts them, with a pause in the middle.
func counted(address string, bytes int64, pause func()) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	for _, part := range []int64{bytes / 2, bytes - bytes/2} {
		if _, err := io.CopyN(connection, zeros{}, part); err != nil {
			return fmt.Errorf("say %d bytes: %w", part, err)
		}
		pause()
		pause = func() {}
	}
	if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(connection)
	if err != nil {
		return fmt.Errorf("the count: %w", err)
	}
	if heard := strings.TrimSpace(string(answer)); heard != strconv.FormatInt(bytes, 10) {
		return fmt.Errorf("%q of %d bytes were counted", heard, bytes)
	}
	return nil
}

// zeros never end.
type zeros struct{}

func (zeros) Read(into []byte) (int, error) {
	clear(into)
	return len(into), nil
}

// reset asks for a page and goes away at once, with a reset instead of an end.
func reset(address string) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := fmt.Fprint(connection, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	return connection.(*net.TCPConn).SetLinger(0)
}

// provoke lets the pod reset a connection, and waits for its end.
func provoke(address string) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := fmt.Fprint(connection, "more than is read\n"); err != nil {
		return err
	}
	// An end or a reset: what is behind the listener decides.
	io.Copy(io.Discard, connection)
	return nil
}

func fetch(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer: %s", answer.Status)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

func rateOfForward(ctx context.Context, o options, s *source) (times, error) {
	if o.transport == "raw" {
		return rawRateOfForward(ctx, o, s)
	}
	session, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	defer session.connection.Close()
	return each(o.count, func(m *meter) error {
		if err := session.page("/large", m); err != nil {
			return err
		}
		return m.exactly(o.bytes)
	}, whole)
}

// firstOfForward: a session each.
func firstOfForward(ctx context.Context, o options, s *source) (times, error) {
	if o.transport == "raw" {
		return rawFirstOfForward(ctx, o, s)
	}
	return each(o.count, func(m *meter) error {
		session, err := s.session(ctx)
		if err != nil {
			return err
		}
		defer session.connection.Close()
		return session.page("/", m)
	}, toFirst)
}
