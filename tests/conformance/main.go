// Conformance runs Kubernetes' own end-to-end tests, of the version whose control
// plane it starts, against an edge: everything that they ask of the node crosses the
// tunnel. By default these are all tests of what a node must do, labelled
// NodeConformance and Conformance; the list in nodeconformance.txt has those that the
// real kubelet passes on the same kind of machine.
//
//	conformance [-link A] [-short] [-label FILTER] [-focus REGEX] [-procs 6] [-minutes 60] [-keep]
//
// It needs root. The exit status is 1 if a test that ran did not pass, if none has run
// or, where all of the list should have, if one is missing.
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
	"slices"
	"syscall"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/tests/lab"
)

// nodeLabels selects the tests of nodeconformance.txt.
const nodeLabels = "NodeConformance && Conformance"

// options are the flags.
type options struct {
	link     string
	short    bool
	label    string
	focus    string
	procs    int
	minutes  int
	keep     bool
	slot     int
	dir, bin string
	results  string
}

// whole reports whether all tests of the list are to run.
func (o options) whole() bool { return !o.short && !o.picks() }

// picks reports whether a filter chooses tests, so that which should run is not known.
func (o options) picks() bool { return o.label != nodeLabels || o.focus != "" }

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("conformance", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.link, "link", "A", "profile of the edge's link, A to E")
	fs.BoolVar(&o.short, "short", false, "leave out the tests of slow.txt")
	fs.StringVar(&o.label, "label", nodeLabels, "Ginkgo's label filter")
	fs.StringVar(&o.focus, "focus", "", "only tests whose names match")
	fs.IntVar(&o.procs, "procs", 6, "how many tests run at once")
	fs.IntVar(&o.minutes, "minutes", 60, "bound of the whole run of the tests")
	fs.BoolVar(&o.keep, "keep", false, "when the tests have ended leave all running until interrupted")
	slot, err := lab.Slot()
	if err != nil {
		return o, err
	}
	fs.IntVar(&o.slot, "slot", slot, "0 to 3: checkouts of one machine that run at once need one each; SKERRY_E2E_SLOT sets the default")
	fs.StringVar(&o.dir, "dir", ".demo/conformance", "directory of the lab; reports and logs are below it")
	fs.StringVar(&o.bin, "bin", ".demo/bin", "directory of the programs")
	fs.StringVar(&o.results, "results", "bench", "directory of the results, to which a run of all tests adds; empty adds nowhere")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if !slices.ContainsFunc(results.Links(), func(l results.Link) bool { return l.Name == o.link }) {
		return o, fmt.Errorf("-link: there is no %q", o.link)
	}
	if o.slot < 0 || o.slot > 3 {
		return o, errors.New("-slot must be 0 to 3")
	}
	if o.procs < 1 || o.minutes < 1 {
		return o, errors.New("-procs and -minutes must be 1 at least")
	}
	return o, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := run(ctx, os.Args[1:], os.Stdout, log)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "conformance: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer, log *slog.Logger) error {
	o, err := parseFlags(args, os.Stderr)
	if err != nil {
		return err
	}
	listed, slow := names(nodeText), names(slowText)
	keep := func([]results.Row) error { return nil }
	if o.whole() && o.results != "" {
		recorder, err := results.Begin(ctx, o.results, "conformance", args)
		if err != nil {
			return err
		}
		keep = recorder.Keep
	}
	b, err := newBed(ctx, o, log)
	if err != nil {
		return err
	}
	reports, err := b.measure(ctx, slow)
	if err != nil {
		return err
	}
	v := judge(listed, expected(o, listed, slow), reports)
	v.print(out)
	if err := keep(v.rows(o.link)); err != nil {
		return err
	}
	return v.err(o)
}

// err says why a run is not what it should be.
func (v verdict) err(o options) error {
	switch n := len(v.failed) + len(v.missing); {
	case n > 0:
		return fmt.Errorf("%d tests of the list have not passed; logs and reports are in %s", n, o.dir)
	case v.ran+v.others == 0:
		return fmt.Errorf("no test has run: does a name match -focus, and a label -label? logs are in %s", o.dir)
	case o.picks() && len(v.refused) > 0:
		return fmt.Errorf("%d of the chosen tests have not passed; logs and reports are in %s", len(v.refused), o.dir)
	}
	return nil
}

// expected are the tests of the list that must run; where a filter chooses, those that
// do run are all.
func expected(o options, listed, slow []string) []string {
	switch {
	case o.picks():
		return nil
	case o.short:
		return slices.DeleteFunc(slices.Clone(listed), func(n string) bool { return slices.Contains(slow, n) })
	}
	return listed
}
