// Package command is what the programs of the benches have alike: how they begin,
// how their flags name things, and how they end.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/skerry-io/skerry/bench/results"
)

// Program is a bench.
type Program struct {
	// Name is that of the bench in the rows; "make bench-NAME" runs it.
	Name string
	// Run is the bench itself. ctx ends with SIGINT and SIGTERM.
	Run func(ctx context.Context, args []string, log *slog.Logger) error
	// Parts are other processes of the bench, which are this program with the key as
	// its only argument. They end with their input: Ctrl-C is for the bench.
	Parts map[string]func(ctx context.Context, in io.Reader, out io.Writer) error
}

// Main runs the program, or the part of it that was asked for, and does not return.
func (p Program) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := p.run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "bench-%s: %v\n", p.Name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (p Program) run(ctx context.Context, args []string) error {
	if len(args) == 1 {
		if part, ok := p.Parts[args[0]]; ok {
			return part(context.WithoutCancel(ctx), os.Stdin, os.Stdout)
		}
	}
	return p.Run(ctx, args, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// Measurement is one run of a bench.
type Measurement struct {
	// Name is the bench's.
	Name string
	// Args are the flags of the run, Out is the directory of the results.
	Args []string
	Out  string
	// Measure makes the rows; Down takes away what it has made, within Patience.
	Measure  func(context.Context) ([]results.Row, error)
	Down     func(context.Context) error
	Patience time.Duration
}

// Keep measures, and writes the results if nothing has failed.
func (m Measurement) Keep(ctx context.Context, log *slog.Logger) ([]results.Row, error) {
	begin := time.Now()
	recorder, err := results.Begin(ctx, m.Out, "bench-"+m.Name, m.Args)
	if err != nil {
		return nil, err
	}
	rows, err := m.Measure(ctx)
	downCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.Patience)
	defer cancel()
	if err := errors.Join(err, m.Down(downCtx)); err != nil {
		return nil, err
	}
	if err := recorder.Keep(rows); err != nil {
		return nil, err
	}
	log.Info("results written", "rows", len(rows), "dir", m.Out, "took", time.Since(begin).Round(time.Second))
	return rows, nil
}

// Parse is the flags' own, without arguments besides them.
func Parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return nil
}

// Choose takes names of all, by commas, in the order of all; no name means all. what
// is the flag that has them.
func Choose(what, names string, all []string) ([]string, error) {
	if names == "" {
		return all, nil
	}
	wanted := strings.Split(names, ",")
	for _, n := range wanted {
		if !slices.Contains(all, n) {
			return nil, fmt.Errorf("-%s: no %q: there are %s", what, n, strings.Join(all, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(n string) bool { return !slices.Contains(wanted, n) }), nil
}
