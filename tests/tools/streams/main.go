// Command streams is a client of a runtime's or a kubelet's streams, built on the packages that kubectl is built on.
//
//	streams exec|attach [FLAGS] [--tty] [--no-stdin] [-- COMMAND…]  its own stdin, stdout and stderr; ends as the command
//	streams forward [FLAGS] --port N          prints a local port and forwards it until its input ends
//	streams execs [FLAGS] --count N --at-once N -- COMMAND…          each must say "hello\n"; JSON of what failed
//	streams connections [FLAGS] --port N --count N --at-once N       one session, a GET for each; JSON of what failed
//	streams sessions [FLAGS] --port N --count N --at-once N          a session for each GET; JSON of what failed
//	streams resets [FLAGS] --port N --count N --resetting N --counting N  one session, connections that are reset: by the
//	                                          client, and by the pod on the port that is said to do so; one lives on beside
//	streams counts [FLAGS] --counting N --bytes N --count N          one session, connections that say so many bytes, end
//	                                          their direction and hear a number; JSON of what failed
//	streams held [FLAGS] [--port N] --count N -- COMMAND…           sessions whose clients take nothing, and send more than is
//	                                          taken; prints the count when all are there, ends with its input
//	streams rate exec|forward [FLAGS] --bytes N [--port N]           JSON: nanoseconds until so many bytes came
//	streams first exec|forward [FLAGS] --count N [--port N]          JSON: nanoseconds from asking to the first byte
//	streams first nothing [FLAGS] --address A --count N              the same of a call and a GET without a session
//	streams url [FLAGS] [-- COMMAND…]         the URL of an exec that is not begun
//	streams serve --port N --bytes N          pages for clients of forwarded ports: / and, so long, /large
//
// FLAGS say where: --endpoint unix:///… with --container ID or --sandbox ID asks the runtime for the URL; --url takes
// a kubelet's own, complete but for its query. And how: --transport spdy|websocket, and for rate and first also raw:
// SPDY with frames by hand, a client that costs next to nothing.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/util/exec"
)

type options struct {
	endpoint, container, sandbox, url, transport, address string
	tty, noStdin                                          bool
	port, resetting, counting, count, atOnce, pairs       int
	bytes                                                 int64
	limit                                                 time.Duration
	command                                               []string
}

func main() {
	err := run(os.Args[1:])
	if ended, is := err.(exec.ExitError); is {
		os.Exit(ended.ExitStatus())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "streams:", err)
		os.Exit(255)
	}
}

func run(words []string) error {
	if len(words) == 0 {
		return fmt.Errorf("what to do is missing")
	}
	verb, words := words[0], words[1:]
	if (verb == "rate" || verb == "first") && len(words) > 0 {
		verb, words = verb+" "+words[0], words[1:]
	}
	o, err := parse(verb, words)
	if err != nil {
		return err
	}
	if verb == "serve" {
		return serve(o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.limit)
	defer cancel()
	source, err := newSource(o)
	if err != nil {
		return err
	}
	defer source.close()
	return do(ctx, verb, o, source)
}

func parse(verb string, words []string) (options, error) {
	var o options
	flags := flag.NewFlagSet(verb, flag.ExitOnError)
	flags.StringVar(&o.endpoint, "endpoint", "", "the runtime's socket, as unix:///…")
	flags.StringVar(&o.container, "container", "", "a container's id")
	flags.StringVar(&o.sandbox, "sandbox", "", "a sandbox's id")
	flags.StringVar(&o.url, "url", "", "a kubelet's URL instead")
	flags.StringVar(&o.transport, "transport", "spdy", "spdy or websocket; raw")
	flags.StringVar(&o.address, "address", "", "the pod's, with a port")
	flags.BoolVar(&o.tty, "tty", false, "a terminal")
	flags.BoolVar(&o.noStdin, "no-stdin", false, "send nothing")
	flags.IntVar(&o.port, "port", 0, "the pod's port")
	flags.IntVar(&o.resetting, "resetting", 0, "a port of the pod's that resets who connects")
	flags.IntVar(&o.counting, "counting", 0, "a port of the pod's that says how many bytes it has heard")
	flags.IntVar(&o.count, "count", 1, "how often")
	flags.IntVar(&o.atOnce, "at-once", 1, "how many at once")
	flags.IntVar(&o.pairs, "pairs", 1, "connections of each session that is held")
	flags.Int64Var(&o.bytes, "bytes", 100<<20, "how much")
	flags.DurationVar(&o.limit, "limit", 10*time.Minute, "how long at most")
	err := flags.Parse(words)
	o.command = flags.Args()
	return o, err
}

func do(ctx context.Context, verb string, o options, source *source) error {
	switch verb {
	case "exec", "attach":
		return passThrough(ctx, verb, o, source)
	case "forward":
		return forward(ctx, o, source)
	case "execs":
		return show(execs(ctx, o, source))
	case "connections":
		return show(connections(ctx, o, source))
	case "sessions":
		return show(sessions(ctx, o, source))
	case "url":
		return printURL(ctx, source)
	case "resets":
		return show(resets(ctx, o, source))
	case "counts":
		return show(counts(ctx, o, source))
	case "held":
		return held(ctx, o, source)
	case "rate exec":
		return show(rateOfExec(ctx, o, source))
	case "rate forward":
		return show(rateOfForward(ctx, o, source))
	case "first exec":
		return show(firstOfExec(ctx, o, source))
	case "first forward":
		return show(firstOfForward(ctx, o, source))
	case "first nothing":
		return show(firstOfNothing(ctx, o, source))
	}
	return fmt.Errorf("no verb %q", verb)
}

func show(outcome any, err error) error {
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(outcome)
}
