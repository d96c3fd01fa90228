// Kubelet measures what a user of kubectl feels: exec and logs of a pod on an
// edge behind links A to E, with the real kubectl, and what the daemons need of
// memory. It brings up a lab of its own, takes it down again, and puts the
// figures into bench/results.json and bench/RESULTS.md.
//
//	kubelet [-rounds 20] [-total 25m] [-out bench]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/skerry-io/skerry/bench/results"
)

const (
	// name is that of the bench in the rows.
	name = "kubelet"
	// cleanupTime bounds the end of the lab.
	cleanupTime = 3 * time.Minute
)

// options are the flags.
type options struct {
	rounds   int
	total    time.Duration
	dir, bin string
	out      string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := run(ctx, os.Args[1:], log)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench-kubelet:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.rounds, "rounds", 20, "rounds that count; each visits every link once")
	fs.DurationVar(&o.total, "total", 25*time.Minute, "no round begins that would end later than this")
	fs.StringVar(&o.dir, "dir", ".demo/bench", "directory of the lab")
	fs.StringVar(&o.bin, "bin", ".demo/bin", "directory of the programs")
	fs.StringVar(&o.out, "out", "bench", "directory of the results")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("-rounds %d: there must be one at least", o.rounds)
	}
	return o, nil
}

func run(ctx context.Context, args []string, log *slog.Logger) error {
	o, err := parseFlags(args, os.Stderr)
	if err != nil {
		return err
	}
	begin := time.Now()
	recorder, err := results.Begin(ctx, o.out, "bench-"+name, args)
	if err != nil {
		return err
	}
	b, err := newBed(o.dir, o.bin, log)
	if err != nil {
		return err
	}
	rows, err := measure(ctx, b, o, begin.Add(o.total), log)
	downCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if err := errors.Join(err, b.lab.Down(downCtx)); err != nil {
		return err
	}
	if err := recorder.Keep(rows); err != nil {
		return err
	}
	log.Info("results written", "rows", len(rows), "dir", o.out, "took", time.Since(begin).Round(time.Second))
	return nil
}

// measure brings the lab up and makes the rows.
func measure(ctx context.Context, b *bed, o options, end time.Time, log *slog.Logger) ([]results.Row, error) {
	if err := b.up(ctx); err != nil {
		return nil, err
	}
	log.Info("lab is up")
	s := results.NewSamples(name)
	if err := rounds(ctx, b, s, o.rounds, end, log); err != nil {
		return nil, err
	}
	rows := s.Rows()
	memory, err := b.memory(ctx)
	if err != nil {
		return nil, err
	}
	sizes, err := b.sizes()
	return append(append(rows, memory...), sizes...), err
}
