package main

import (
	"context"
	"slices"
	"time"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/bench/tunnel/agent"
	"github.com/skerry-io/skerry/bench/tunnel/system"
	"github.com/skerry-io/skerry/bench/tunnel/trace"
)

const (
	// firstCount is how many connections a trial makes, firstWait bounds each, and
	// after firstTotal no further one begins.
	firstCount      = 10
	firstCountQuick = 5
	firstWait       = 30 * time.Second
	firstTotal      = 45 * time.Second
	firstTotalQuick = 15 * time.Second
	// echoEvery is the distance of the echoes whose times are taken.
	echoEvery = 100 * time.Millisecond
	// echoTime is how long they go on; the first second is not measured.
	echoTime      = 30 * time.Second
	echoTimeQuick = 10 * time.Second
	// echoDrain is how long the last answers are waited for.
	echoDrain = 20 * time.Second
)

// lan is the link on which the CPU is the limit, so that there systems take
// turns.
const lan = "A"

// splitLAN parts links into lan, if it is there, and the others.
func splitLAN(links []string) (lans, others []string) {
	if slices.Contains(links, lan) {
		lans = []string{lan}
	}
	return lans, slices.DeleteFunc(slices.Clone(links), func(l string) bool { return l == lan })
}

func ttfbBatches(r *runner, links []string) [][]task {
	fresh := func(ctx context.Context, link string, sys system.System) error {
		return r.ttfb(ctx, link, sys, "ttfb_new_ms", false)
	}
	resumed := func(ctx context.Context, link string, sys system.System) error {
		return r.ttfb(ctx, link, sys, "ttfb_resumed_ms", true)
	}
	lans, others := splitLAN(links)
	batches := oneByOne(append(r.forAll(lans, fresh), r.forAll(lans, resumed)...))
	if len(others) > 0 {
		batches = append(batches, append(r.forAll(others, fresh), r.forAll(others, resumed)...))
	}
	return batches
}

// ttfb times connections from nothing to the first answer.
func (r *runner) ttfb(ctx context.Context, link string, sys system.System, metric string, resumed bool) error {
	return r.trial(ctx, link, sys, func(ctx context.Context, t *trial) error {
		plan := agent.FirstPlan{
			Endpoint: t.endpoint, Count: firstCount, Timeout: firstWait, Total: r.pick(firstTotal, firstTotalQuick), Resumed: resumed,
		}
		if r.quick {
			plan.Count = firstCountQuick
		}
		var ms []float64
		if err := t.edge.Call(ctx, agent.CallFirst, plan, &ms); err != nil {
			return err
		}
		r.record(link, sys, metric, "ms", ms...)
		return nil
	})
}

func echoBatches(r *runner, links []string) [][]task {
	return [][]task{r.forAll(links, func(ctx context.Context, link string, sys system.System) error {
		return r.connected(ctx, link, sys, func(ctx context.Context, t *trial) error {
			start := time.Now().Add(200 * time.Millisecond)
			seen, err := t.echoes(ctx, start, start.Add(r.pick(echoTime, echoTimeQuick)))
			if err == nil {
				r.recordEchoes(t, sys, "echo", seen)
			}
			return err
		})
	})}
}

// echoes sends messages from start to end.
func (t *trial) echoes(ctx context.Context, start, end time.Time) (trace.Trace, error) {
	var seen trace.Trace
	plan := agent.EchoPlan{Start: start, End: end, Every: echoEvery, Drain: echoDrain}
	err := t.edge.Call(ctx, agent.CallEcho, plan, &seen)
	return seen, err
}

// recordEchoes records the percentiles of one trial.
func (r *runner) recordEchoes(t *trial, sys system.System, metric string, seen trace.Trace) {
	ms := seen.Latencies()
	skip := int(time.Second / echoEvery) // both ends learn the link
	if len(ms) <= skip {
		return
	}
	ms = ms[skip:]
	r.record(t.link, sys, metric+"_p50_ms", "ms", results.Percentile(ms, 50))
	r.record(t.link, sys, metric+"_p99_ms", "ms", results.Percentile(ms, 99))
}
