// Pods measures what an edge node costs and how fast it is: from creating a pod until
// it runs, from deleting one until it is gone, from changing a ConfigMap until its file
// shows it, memory and idle CPU with 10, 30 and 100 pods, and the start of the agent
// with 30 pods; beside the real kubelet on a machine of its own, in the same cluster
// and at the same time. It brings up a lab, takes it down again, and puts the figures
// into bench/results.json and bench/RESULTS.md. It needs root.
//
//	pods [-pods 10,30,100] [-rounds 10] [-quick] [-out bench]
//
// bench/DESIGN.md says what is measured and how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/klog/v2" //nolint:depguard // to silence it

	"github.com/skerry-io/skerry/bench/command"
)

const (
	// name is that of the bench in the rows.
	name = "pods"
	// cleanupTime bounds the end of the lab; a hundred pods take a while.
	cleanupTime = 6 * time.Minute
	// budgetPods is the count that the budgets are for: its metrics have no suffix.
	budgetPods = 10
	// startPods is the count at which the agent is started anew, and bounded.
	startPods = 30
)

// options are the flags, and what follows from them.
type options struct {
	pods    []int // in rising order
	rounds  int
	changes int           // of a ConfigMap
	settle  time.Duration // before anything is measured at rest
	windows int           // of idle CPU
	window  time.Duration
	dir     string
	bin     string
	kubelet string
	out     string
}

func main() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	command.Program{Name: name, Run: run}.Main()
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	var quick bool
	var pods string
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&pods, "pods", "10,30,100", "how many pods there are on each node, by commas")
	fs.IntVar(&o.rounds, "rounds", 10, "pods created and deleted on each node at each count")
	fs.BoolVar(&quick, "quick", false, "three rounds, one change of a ConfigMap, short rests; without -pods 10 and 30")
	fs.StringVar(&o.dir, "dir", ".demo/bench-pods", "directory of the lab")
	fs.StringVar(&o.bin, "bin", ".demo/bin", "directory of the programs")
	fs.StringVar(&o.kubelet, "kubelet", ".demo/bin/kubelet", "the real kubelet; empty measures the agent alone")
	fs.StringVar(&o.out, "out", "bench", "directory of the results")
	if err := command.Parse(fs, args); err != nil {
		return o, err
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	o.changes, o.settle, o.windows, o.window = 3, 30*time.Second, 6, 10*time.Second
	if quick {
		o.changes, o.settle, o.windows, o.window = 1, 5*time.Second, 2, 5*time.Second
		if !given["rounds"] {
			o.rounds = 3
		}
		if !given["pods"] {
			pods = "10,30"
		}
	}
	if o.rounds < 1 {
		return o, errors.New("-rounds: there must be one at least")
	}
	for word := range strings.SplitSeq(pods, ",") {
		n, err := strconv.Atoi(word)
		// The kubelet takes 110 pods, and one comes and goes.
		if err != nil || n < 1 || n > 105 {
			return o, fmt.Errorf("-pods: %q is not a number from 1 to 105", word)
		}
		o.pods = append(o.pods, n)
	}
	slices.Sort(o.pods)
	o.pods = slices.Compact(o.pods)
	return o, nil
}

func run(ctx context.Context, args []string, log *slog.Logger) error {
	o, err := parseFlags(args, os.Stderr)
	if err != nil {
		return err
	}
	b, err := newBed(o, log)
	if err != nil {
		return err
	}
	_, err = command.Measurement{
		Name: name, Args: args, Out: o.out, Patience: cleanupTime, Measure: b.measure, Down: b.down,
	}.Keep(ctx, log)
	return err
}
