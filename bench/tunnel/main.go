// Tunnel measures what package tunnel makes of bad links, beside what one would
// use instead: one stock QUIC connection, TLS with yamux, and a WebSocket as
// KubeEdge has it. It joins network namespaces by link emulators, runs all
// systems side by side, each on a link of its own, and puts the figures into
// bench/results.json and bench/RESULTS.md. It needs root.
//
//	tunnel [-run outage,nat] [-links B,D] [-rounds 2] [-quick] [-out bench]
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
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/bench/tunnel/agent"
	"github.com/skerry-io/skerry/bench/tunnel/bed"
	"github.com/skerry-io/skerry/bench/tunnel/system"
)

const (
	// name is that of the bench in the rows.
	name = "tunnel"
	// cleanupTime bounds the end of the bed.
	cleanupTime = time.Minute
)

// options are the flags, and what follows from them.
type options struct {
	scenarios []string
	links     []string // empty: those of each scenario
	systems   []string
	outages   []time.Duration
	rounds    int
	total     time.Duration
	sessions  int
	quick     bool
	dir, bin  string
	out       string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if len(os.Args) == 2 && os.Args[1] == agent.Argument {
		// Ctrl-C is for the bench, which ends its agents.
		err := agent.Run(context.WithoutCancel(ctx), os.Stdin, os.Stdout)
		stop()
		exit(err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := run(ctx, os.Args[1:], log)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench-tunnel:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	var run, links, systems, outages string
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&run, "run", "", "what to measure, by commas; all is "+strings.Join(scenarioNames(), ","))
	fs.StringVar(&links, "links", "", "links to measure over, by commas; without, each scenario has its own")
	fs.StringVar(&systems, "systems", "", "systems to measure, by commas; all is "+strings.Join(systemNames(), ","))
	fs.StringVar(&outages, "outages", "10,30,60", "lengths of the outages in seconds, by commas")
	fs.IntVar(&o.rounds, "rounds", 2, "rounds; each measures everything once")
	fs.IntVar(&o.sessions, "sessions", 2000, "idle sessions")
	fs.DurationVar(&o.total, "total", 25*time.Minute, "no round begins that would end later than this")
	fs.BoolVar(&o.quick, "quick", false, "one short round: links B and D, outages of 10 s, no wait for the slowest")
	fs.StringVar(&o.dir, "dir", ".demo/bench-tunnel", "directory of sockets and logs")
	fs.StringVar(&o.bin, "bin", ".demo/bin", "directory of the programs")
	fs.StringVar(&o.out, "out", "bench", "directory of the results")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.quick {
		if !given["rounds"] {
			o.rounds = 1
		}
		if !given["outages"] {
			outages = "10"
		}
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.rounds < 1 || o.sessions < 1 {
		return o, errors.New("-rounds and -sessions: there must be one at least")
	}
	var linkNames []string
	for _, l := range results.Links() {
		linkNames = append(linkNames, l.Name)
	}
	var err error
	if o.scenarios, err = choose("run", run, scenarioNames()); err != nil {
		return o, err
	}
	if o.systems, err = choose("systems", systems, systemNames()); err != nil {
		return o, err
	}
	if links != "" {
		if o.links, err = choose("links", links, linkNames); err != nil {
			return o, err
		}
	}
	for text := range strings.SplitSeq(outages, ",") {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || seconds < 1 || seconds > 3600 {
			return o, fmt.Errorf("-outages %s: want seconds from 1 to 3600", text)
		}
		o.outages = append(o.outages, time.Duration(seconds*float64(time.Second)))
	}
	return o, nil
}

// choose takes names of all, in the order of all; no name means all.
func choose(what, names string, all []string) ([]string, error) {
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

func systemNames() []string {
	var names []string
	for _, s := range system.All() {
		names = append(names, s.Name)
	}
	return names
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
	authority, err := system.NewAuthority()
	if err != nil {
		return err
	}
	b, err := bed.New(ctx, bed.Config{Dir: o.dir, Linkemu: o.bin + "/linkemu"})
	if err != nil {
		return err
	}
	r := &runner{options: o, bed: b, authority: authority, log: log, out: os.Stdout, samples: results.NewSamples(name)}
	err = r.rounds(ctx, begin)
	downCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if err := errors.Join(err, b.Close(downCtx)); err != nil {
		return err
	}
	rows := r.samples.Rows()
	if err := recorder.Keep(rows); err != nil {
		return err
	}
	log.Info("results written", "rows", len(rows), "dir", o.out, "took", time.Since(begin).Round(time.Second))
	return nil
}
