package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// source gives URLs to stream from: a runtime's, one for each session, or a kubelet's.
type source struct {
	options
	connection *grpc.ClientConn
	runtime    cri.RuntimeServiceClient
}

// streams that a command's client wants.
type streams struct{ stdin, stdout, stderr, tty bool }

func newSource(o options) (*source, error) {
	if o.url != "" {
		return &source{options: o}, nil
	}
	connection, err := grpc.NewClient(o.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &source{o, connection, cri.NewRuntimeServiceClient(connection)}, nil
}

func (s *source) close() {
	if s.connection != nil {
		s.connection.Close()
	}
}

// command gives the URL of an exec or attach.
func (s *source) command(ctx context.Context, verb string, want streams) (*url.URL, error) {
	if s.url != "" {
		return s.kubelets(want)
	}
	if verb == "attach" {
		answer, err := s.runtime.Attach(ctx, &cri.AttachRequest{
			ContainerId: s.container, Stdin: want.stdin, Stdout: want.stdout, Stderr: want.stderr, Tty: want.tty,
		})
		return parseURL(answer.GetUrl(), err)
	}
	answer, err := s.runtime.Exec(ctx, &cri.ExecRequest{
		ContainerId: s.container, Cmd: s.options.command,
		Stdin: want.stdin, Stdout: want.stdout, Stderr: want.stderr, Tty: want.tty,
	})
	return parseURL(answer.GetUrl(), err)
}

// ports gives the URL of a port-forward.
func (s *source) ports(ctx context.Context) (*url.URL, error) {
	if s.url != "" {
		return parseURL(s.url, nil)
	}
	request := &cri.PortForwardRequest{PodSandboxId: s.sandbox}
	// What else is connected to is told with each connection.
	if s.port != 0 {
		request.Port = []int32{int32(s.port)}
	}
	answer, err := s.runtime.PortForward(ctx, request)
	return parseURL(answer.GetUrl(), err)
}

func parseURL(text string, err error) (*url.URL, error) {
	if err != nil {
		return nil, err
	}
	return url.Parse(text)
}

// kubelets: what is wanted is said in the query.
func (s *source) kubelets(want streams) (*url.URL, error) {
	found, err := url.Parse(s.url)
	if err != nil {
		return nil, err
	}
	query := url.Values{"command": s.options.command}
	for name, wanted := range map[string]bool{
		"input": want.stdin, "output": want.stdout, "error": want.stderr, "tty": want.tty,
	} {
		if wanted {
			query.Set(name, "1")
		}
	}
	found.RawQuery = query.Encode()
	return found, nil
}

func configFor(found *url.URL) *rest.Config {
	config := &rest.Config{Host: found.Scheme + "://" + found.Host}
	// A kubelet's certificate is its own.
	config.Insecure = found.Scheme == "https"
	return config
}

func (s *source) executor(ctx context.Context, verb string, want streams) (remotecommand.Executor, error) {
	found, err := s.command(ctx, verb, want)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	switch s.transport {
	case "spdy":
		return remotecommand.NewSPDYExecutor(configFor(found), http.MethodPost, found)
	case "websocket":
		return remotecommand.NewWebSocketExecutor(configFor(found), http.MethodGet, found.String())
	}
	return nil, fmt.Errorf("no transport %q", s.transport)
}

func (s *source) dialer(ctx context.Context) (httpstream.Dialer, error) {
	found, err := s.ports(ctx)
	if err != nil {
		return nil, fmt.Errorf("port-forward: %w", err)
	}
	if s.transport == "websocket" {
		return portforward.NewSPDYOverWebsocketDialer(found, configFor(found))
	}
	transport, upgrader, err := spdy.RoundTripperFor(configFor(found))
	if err != nil {
		return nil, err
	}
	return spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, found), nil
}

// session begins a port-forward session.
func (s *source) session(ctx context.Context) (*session, error) {
	dialer, err := s.dialer(ctx)
	if err != nil {
		return nil, err
	}
	connection, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, fmt.Errorf("port-forward: %w", err)
	}
	return &session{connection: connection, port: strconv.Itoa(s.port)}, nil
}
