package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/bench/tunnel/agent"
	"github.com/skerry-io/skerry/bench/tunnel/bed"
	"github.com/skerry-io/skerry/bench/tunnel/system"
)

// port is the server's, by UDP and TCP.
const port = "7443"

// task measures something and records it.
type task func(ctx context.Context) error

// scenario is a part of a round.
type scenario struct {
	name  string
	links []string // without the flag
	// batches are tasks to run one batch after the other, those of a batch at once.
	batches func(r *runner, links []string) [][]task
}

// scenarios are in the order in which a round has them.
func scenarios() []scenario {
	all := []string{"A", "B", "C", "D", "E"}
	return []scenario{
		{"outage", []string{"B", "D"}, outageBatches},
		{"ipchange", []string{"B"}, ipchangeBatches},
		{"nat", []string{"B"}, natBatches},
		{"udpblock", []string{"B", "D"}, udpblockBatches},
		{"ttfb", all, ttfbBatches},
		{"echo", all, echoBatches},
		{"bulk", all, bulkBatches},
		{"idle", nil, idleBatches},
	}
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// runner runs the scenarios.
type runner struct {
	options

	bed       *bed.Bed
	authority system.Authority
	log       *slog.Logger
	out       io.Writer

	mu      sync.Mutex // guards the following fields
	samples *results.Samples
	failed  int
}

// rounds measures everything once a round, so that what else the machine does
// is spread over all of it.
func (r *runner) rounds(ctx context.Context, begin time.Time) error {
	for n := 1; n <= r.options.rounds; n++ {
		roundBegin := time.Now()
		for _, s := range scenarios() {
			if !slices.Contains(r.scenarios, s.name) {
				continue
			}
			if err := r.scenario(ctx, s, n); err != nil {
				return err
			}
		}
		took := time.Since(roundBegin)
		r.log.Info("round done", "round", n, "of", r.options.rounds, "took", took.Round(time.Second), "failed", r.failed)
		if n < r.options.rounds && time.Now().Add(took).After(begin.Add(r.total)) {
			r.log.Warn("no time for more rounds", "rounds", n)
			break
		}
	}
	if len(r.samples.Rows()) == 0 {
		return errors.New("nothing was measured")
	}
	return nil
}

// scenario runs one in a round, and prints what is known of it so far.
func (r *runner) scenario(ctx context.Context, s scenario, round int) error {
	links := r.linksOf(s)
	if len(links) == 0 && len(s.links) > 0 {
		return nil
	}
	begin := time.Now()
	batches := s.batches(r, links)
	for i, batch := range batches {
		var g errgroup.Group
		for _, t := range batch {
			g.Go(func() error {
				err := t(ctx)
				if err == nil || ctx.Err() != nil {
					return ctx.Err()
				}
				// One system that fails is a result, too, and must not cost the others'.
				r.log.Warn("not measured", "scenario", s.name, "err", err)
				r.mu.Lock()
				defer r.mu.Unlock()
				r.failed++
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		r.log.Info("batch done", "scenario", s.name, "round", round, "batch", i+1, "of", len(batches),
			"trials", len(batch), "took", time.Since(begin).Round(time.Second))
	}
	printTable(r.out, s.name, r.samples.Rows())
	return nil
}

func (r *runner) linksOf(s scenario) []string {
	switch {
	case len(r.links) > 0:
		return r.links
	case r.quick:
		return slices.DeleteFunc(slices.Clone(s.links), func(l string) bool { return l != "B" && l != "D" })
	}
	return s.links
}

// systemsOf are the systems that were asked for.
func (r *runner) systemsOf() []system.System {
	return slices.DeleteFunc(system.All(), func(s system.System) bool { return !slices.Contains(r.systems, s.Name) })
}

// forAll makes a batch of a task for each link and system.
func (r *runner) forAll(links []string, t func(ctx context.Context, link string, sys system.System) error) []task {
	var batch []task
	for _, link := range links {
		for _, sys := range r.systemsOf() {
			batch = append(batch, func(ctx context.Context) error { return t(ctx, link, sys) })
		}
	}
	return batch
}

// oneByOne makes a batch of each task.
func oneByOne(tasks []task) [][]task {
	var batches [][]task
	for _, t := range tasks {
		batches = append(batches, []task{t})
	}
	return batches
}

// pick gives the short value with -quick.
func (r *runner) pick(normal, quick time.Duration) time.Duration {
	if r.quick {
		return quick
	}
	return normal
}

// record adds values to a metric.
func (r *runner) record(link string, sys system.System, metric, unit string, values ...float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		r.samples.Add(results.Key{Link: link, System: sys.Name, Metric: metric, Unit: unit}, v)
	}
}

// trial is one system on a lane of its own.
type trial struct {
	lane         *bed.Lane
	cloud, edge  *agent.Process
	endpoint     agent.Endpoint
	link, system string
}

// trial runs f with a server and a client that nobody has used before.
func (r *runner) trial(ctx context.Context, link string, sys system.System, f func(ctx context.Context, t *trial) error) (err error) {
	lane, err := r.bed.Take(ctx)
	if err != nil {
		return err
	}
	defer r.bed.Give(lane)
	t := &trial{
		lane: lane, link: link, system: sys.Name,
		endpoint: agent.Endpoint{System: sys.Name, Authority: r.authority, Address: lane.CloudAddress() + ":" + port},
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s over %s: %w", sys.Name, link, err)
		}
	}()
	if err := lane.Reset(ctx, link); err != nil {
		return err
	}
	if t.cloud, err = lane.Cloud(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.cloud.Stop()) }()
	if t.edge, err = lane.Edge(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.edge.Stop()) }()
	if err := t.cloud.Call(ctx, agent.CallServe, t.endpoint, nil); err != nil {
		return err
	}
	return f(ctx, t)
}

// connected is trial with a session that has carried something.
func (r *runner) connected(ctx context.Context, link string, sys system.System, f func(ctx context.Context, t *trial) error) error {
	return r.trial(ctx, link, sys, func(ctx context.Context, t *trial) error {
		if err := t.edge.Call(ctx, agent.CallConnect, t.endpoint, nil); err != nil {
			return err
		}
		return f(ctx, t)
	})
}

// until waits for a time.
func until(ctx context.Context, at time.Time) error {
	select {
	case <-time.After(time.Until(at)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
