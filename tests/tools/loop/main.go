// Command loop times the calls of a CRI runtime as a kubelet makes them, one after another or several at once.
//
//	loop images --endpoint unix:///… [--count N] [--pause 50ms]
//	loop containers|pods|parallel|hold --endpoint unix:///… --image REF [--count N] [--pause 50ms]
//	loop plugins --conflist FILE --bin FOLDER [--count N]
//
// It prints one JSON object: nanoseconds by operation. `hold` prints it once its containers run, and keeps them
// until its input ends.
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
	endpoint, image, conflist, bin string
	count                          int
	pause                          time.Duration
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
		return fmt.Errorf("what to time is missing: images, containers, pods, parallel, hold or plugins")
	}
	var o options
	flags := flag.NewFlagSet(words[0], flag.ExitOnError)
	flags.StringVar(&o.endpoint, "endpoint", "", "the runtime's socket, as unix:///…")
	flags.StringVar(&o.image, "image", "", "an image with a shell, already pulled")
	flags.StringVar(&o.conflist, "conflist", "", "the network configuration list, for plugins")
	flags.StringVar(&o.bin, "bin", "", "the folder of the plugins")
	flags.IntVar(&o.count, "count", 20, "how often")
	flags.DurationVar(&o.pause, "pause", 0, "how long to rest before each call")
	if err := flags.Parse(words[1:]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	result, err := measure(ctx, words[0], o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
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
	switch what {
	case "images":
		return node.images(ctx)
	case "containers":
		return node.containers(ctx)
	case "pods":
		return node.pods(ctx)
	case "parallel":
		return node.parallel(ctx)
	case "hold":
		return node.hold(ctx)
	}
	return nil, fmt.Errorf("nothing to time is called %q", what)
}
