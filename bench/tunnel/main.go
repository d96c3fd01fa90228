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
	"strconv"
	"strings"
	"time"

	"github.com/skerry-io/skerry/bench/command"
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
	command.Program{Name: name, Run: run, Parts: map[string]func(context.Context, io.Reader, io.Writer) error{agent.Argument: agent.Run}}.Main()
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
	if err := command.Parse(fs, args); err != nil {
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
	if o.rounds < 1 || o.sessions < 1 {
		return o, errors.New("-rounds and -sessions: there must be one at least")
	}
	var linkNames []string
	for _, l := range results.Links() {
		linkNames = append(linkNames, l.Name)
	}
	var err error
	if o.scenarios, err = command.Choose("run", run, scenarioNames()); err != nil {
		return o, err
	}
	if o.systems, err = command.Choose("systems", systems, systemNames()); err != nil {
		return o, err
	}
	if links != "" {
		if o.links, err = command.Choose("links", links, linkNames); err != nil {
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
	authority, err := system.NewAuthority()
	if err != nil {
		return err
	}
	b, err := bed.New(ctx, bed.Config{Dir: o.dir, Linkemu: o.bin + "/linkemu"})
	if err != nil {
		return err
	}
	r := &runner{options: o, bed: b, authority: authority, log: log, out: os.Stdout, samples: results.NewSamples(name)}
	_, err = command.Measurement{
		Name: name, Args: args, Out: o.out, Patience: cleanupTime, Down: b.Close,
		Measure: func(ctx context.Context) ([]results.Row, error) {
			err := r.rounds(ctx, begin)
			return r.samples.Rows(), err
		},
	}.Keep(ctx, log)
	return err
}
