// Sync measures what the path of desired state costs: the time from a write to
// the API until it is on the edge's disk, a reconnect, a day in which nothing
// happens, and the wear of the disk; beside the way of KubeEdge, which is JSON over
// a WebSocket with one message under way. It brings up a lab with a real
// kube-apiserver and the real proxy, takes it down again, and puts the figures into
// bench/results.json and bench/RESULTS.md. It needs root.
//
//	sync [-run push,reconnect] [-rounds 3] [-quick] [-out bench]
//
// bench/DESIGN.md says what is measured and how.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/skerry-io/skerry/bench/command"
	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/bench/sync/edge"
	"github.com/skerry-io/skerry/bench/tunnel/agent"
)

const (
	// name is that of the bench in the rows.
	name = "sync"
	// cleanupTime bounds the end of the lab.
	cleanupTime = 3 * time.Minute
)

// The systems.
const (
	ours  = "skerry"
	other = "websocket"
)

// options are the flags, and what follows from them.
type options struct {
	scenarios []string
	rounds    int
	quick     bool
	dir, bin  string
	out       string
}

func main() {
	command.Program{Name: name, Run: run, Parts: map[string]func(context.Context, io.Reader, io.Writer) error{agent.Argument: edge.Run}}.Main()
}

func scenarioNames() []string { return []string{"push", "reconnect", "idle", "wear"} }

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	var run string
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&run, "run", "", "what to measure, by commas; without it all: "+strings.Join(scenarioNames(), ","))
	fs.IntVar(&o.rounds, "rounds", 3, "rounds of the changes that are pushed, and of those that wear the disk")
	fs.BoolVar(&o.quick, "quick", false, "one short round without bursts, 1,000 objects at most, and no idle day unless -run asks for it")
	fs.StringVar(&o.dir, "dir", ".demo/bench-sync", "directory of the lab")
	fs.StringVar(&o.bin, "bin", ".demo/bin", "directory of the programs")
	fs.StringVar(&o.out, "out", "bench", "directory of the results")
	if err := command.Parse(fs, args); err != nil {
		return o, err
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("-rounds %d: there must be one at least", o.rounds)
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.quick && !given["rounds"] {
		o.rounds = 1
	}
	var err error
	o.scenarios, err = command.Choose("run", run, scenarioNames())
	if run == "" && o.quick { // a day is not scaled from seconds
		o.scenarios = slices.DeleteFunc(o.scenarios, func(s string) bool { return s == "idle" })
	}
	return o, err
}

// does reports whether a scenario was asked for.
func (o options) does(scenario string) bool { return slices.Contains(o.scenarios, scenario) }

// pick gives the small value with -quick.
func pick[T any](o options, normal, quick T) T {
	if o.quick {
		return quick
	}
	return normal
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
	rows, err := command.Measurement{
		Name: name, Args: args, Out: o.out, Patience: cleanupTime, Measure: b.measure, Down: b.down,
	}.Keep(ctx, log)
	if err != nil {
		return err
	}
	printTable(os.Stdout, rows)
	return nil
}

// printTable prints the medians, a line for each metric and link, a column for
// each system.
func printTable(w io.Writer, rows []results.Row) {
	type line struct{ metric, link, unit string }
	var lines []line
	var systems []string
	cells := map[line]map[string]string{}
	for _, r := range rows {
		l := line{r.Metric, r.Link, r.Unit}
		if cells[l] == nil {
			cells[l] = map[string]string{}
			lines = append(lines, l)
		}
		if !slices.Contains(systems, r.System) {
			systems = append(systems, r.System)
		}
		cells[l][r.System] = fmt.Sprintf("%.6g (%.6g to %.6g, %d)", r.Median, r.Min, r.Max, r.N)
	}
	slices.SortStableFunc(lines, func(a, b line) int { return strings.Compare(a.metric+" "+a.link, b.metric+" "+b.link) })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\tlink\tunit\t%s\n", name, strings.Join(systems, "\t"))
	for _, l := range lines {
		fmt.Fprintf(t, "%s\t%s\t%s", l.metric, l.link, l.unit)
		for _, s := range systems {
			text := cells[l][s]
			if text == "" {
				text = "-"
			}
			fmt.Fprintf(t, "\t%s", text)
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // to a terminal
}
