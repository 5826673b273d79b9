// Command loop times the calls of a CRI runtime as a kubelet makes them, one after another or several at once.
//
//	loop images --endpoint unix:///… [--count N] [--pause 50ms]
//	loop containers|pods|lives|parallel|growth|events --endpoint unix:///… --image REF [--count N] [--pause 50ms]
//	loop hold --endpoint unix:///… --image REF [--count N] [--in-pod N] [--mark N,N]
//	loop probes --endpoint unix:///… --image REF [--count N] [--each-second N] [--span 10s]
//	loop lists|ready --endpoint unix:///… [--count N] [--among N]
//	loop plugins --conflist FILE --bin FOLDER [--count N]
//
// Pods have a host port, unless there is --no-host-port. It prints one JSON object: nanoseconds by operation. `hold` prints
// it once its containers run, an empty one at each mark before, after which it waits for a line; its containers are kept
// until its input ends. `ready` prints it when the runtime answers, is ready, and says that so many containers run.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"
)

type options struct {
	endpoint, image, conflist, bin, marks string
	count, inPod, eachSecond, among       int
	pause, span                           time.Duration
	noHostPort                            bool
}

// samples holds nanoseconds by operation.
type samples map[string][]int64

func (s samples) time(operation string, work func() error) error {
	start := time.Now()
	if err := work(); err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	s[operation] = append(s[operation], time.Since(start).Nanoseconds())
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "loop:", err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) == 0 {
		return fmt.Errorf("what to time is missing: images, containers, pods, lives, parallel, growth, events, hold, " +
			"probes, lists, ready or plugins")
	}
	o, err := parse(words)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	result, err := measure(ctx, words[0], o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func parse(words []string) (o options, err error) {
	flags := flag.NewFlagSet(words[0], flag.ContinueOnError)
	flags.StringVar(&o.endpoint, "endpoint", "", "the runtime's socket, as unix:///…")
	flags.StringVar(&o.image, "image", "", "an image with a shell, already pulled")
	flags.StringVar(&o.conflist, "conflist", "", "the network configuration list, for plugins")
	flags.StringVar(&o.bin, "bin", "", "the folder of the plugins")
	flags.StringVar(&o.marks, "mark", "", "after how many containers hold waits, as 10,20")
	flags.IntVar(&o.count, "count", 20, "how often, or how many containers or pods")
	flags.IntVar(&o.inPod, "in-pod", 4, "containers in each pod that is held")
	flags.IntVar(&o.eachSecond, "each-second", 100, "exec probes a second")
	flags.IntVar(&o.among, "among", 0, "how many containers there must be in a list")
	flags.DurationVar(&o.pause, "pause", 0, "how long to rest before each call")
	flags.DurationVar(&o.span, "span", 10*time.Second, "for how long there are probes")
	flags.BoolVar(&o.noHostPort, "no-host-port", false, "pods without a host port")
	return o, flags.Parse(words[1:])
}

func measure(ctx context.Context, what string, o options) (samples, error) {
	if what == "plugins" {
		return plugins(o)
	}
	node, err := connect(o)
	if err != nil {
		return nil, err
	}
	defer node.close()
	ways := map[string]func(context.Context) (samples, error){
		"images": node.images, "containers": node.containers, "pods": node.pods, "lives": node.lives,
		"parallel": node.parallel, "growth": node.growth, "events": node.events, "hold": node.hold,
		"probes": node.probes, "lists": node.lists, "ready": node.ready,
	}
	way, known := ways[what]
	if !known {
		return nil, fmt.Errorf("nothing to time is called %q", what)
	}
	return way(ctx)
}
