// Kubelet measures what a user of kubectl feels: exec and logs of a pod on an
// edge behind links A to E, with the real kubectl, and what the daemons need of
// memory; beside kubectl's own streams carried through the tunnel as bytes. It brings
// up a lab of its own, takes it down again, and puts the figures into
// bench/results.json and bench/RESULTS.md. It needs root.
//
//	kubelet [-run latency,throughput] [-rounds 20] [-total 25m] [-out bench]
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2" //nolint:depguard // to silence it

	"github.com/skerry-io/skerry/bench/command"
	"github.com/skerry-io/skerry/bench/kubelet/passthrough"
	"github.com/skerry-io/skerry/bench/results"
)

const (
	// name is that of the bench in the rows.
	name = "kubelet"
	// cleanupTime bounds the end of the lab.
	cleanupTime = 3 * time.Minute
)

// The scenarios.
const (
	latency = "latency"
	rss     = "memory"
	load    = "throughput"
)

func scenarioNames() []string { return []string{latency, rss, load} }

// options are the flags.
type options struct {
	scenarios []string
	rounds    int
	loads     int
	total     time.Duration
	dir, bin  string
	out       string
}

func main() {
	klog.LogToStderr(false) // what client-go has to say of each stream that breaks
	klog.SetOutput(io.Discard)
	command.Program{Name: name, Run: run, Parts: map[string]func(context.Context, io.Reader, io.Writer) error{
		passthrough.Argument: func(ctx context.Context, in io.Reader, _ io.Writer) error { return passthrough.RunEdge(ctx, in) },
	}}.Main()
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	var run string
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&run, "run", "", "what to measure, by commas; all is "+strings.Join(scenarioNames(), ","))
	fs.IntVar(&o.rounds, "rounds", 20, "rounds of latency that count; each visits every link once")
	fs.IntVar(&o.loads, "loads", 3, "rounds of throughput")
	fs.DurationVar(&o.total, "total", 25*time.Minute, "no round begins that would end later than this")
	fs.StringVar(&o.dir, "dir", ".demo/bench", "directory of the lab")
	fs.StringVar(&o.bin, "bin", ".demo/bin", "directory of the programs")
	fs.StringVar(&o.out, "out", "bench", "directory of the results")
	if err := command.Parse(fs, args); err != nil {
		return o, err
	}
	if o.rounds < 1 || o.loads < 1 {
		return o, errors.New("-rounds and -loads: there must be one at least")
	}
	var err error
	o.scenarios, err = command.Choose("run", run, scenarioNames())
	return o, err
}

func run(ctx context.Context, args []string, log *slog.Logger) error {
	o, err := parseFlags(args, os.Stderr)
	if err != nil {
		return err
	}
	begin := time.Now()
	b, err := newBed(o.dir, o.bin, log)
	if err != nil {
		return err
	}
	_, err = command.Measurement{
		Name: name, Args: args, Out: o.out, Patience: cleanupTime, Down: b.down,
		Measure: func(ctx context.Context) ([]results.Row, error) { return measure(ctx, b, o, begin.Add(o.total), log) },
	}.Keep(ctx, log)
	return err
}

// measure brings the lab up and makes the rows.
func measure(ctx context.Context, b *bed, o options, end time.Time, log *slog.Logger) ([]results.Row, error) {
	if err := b.up(ctx); err != nil {
		return nil, err
	}
	log.Info("lab is up")
	s := results.NewSamples(name)
	does := func(scenario string) bool { return slices.Contains(o.scenarios, scenario) }
	if does(latency) {
		if err := rounds(ctx, b, s, o.rounds, end, log); err != nil {
			return nil, err
		}
	}
	var rows []results.Row
	if does(rss) { // before the load, after which the collector has not given all back
		memory, err := b.memory(ctx)
		if err != nil {
			return nil, err
		}
		sizes, err := b.sizes()
		if err != nil {
			return nil, err
		}
		rows = append(memory, sizes...)
	}
	if does(load) {
		if err := throughput(ctx, b, s, o.loads, end, log); err != nil {
			return nil, err
		}
	}
	return append(s.Rows(), rows...), nil
}
