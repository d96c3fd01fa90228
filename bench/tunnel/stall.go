package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/bench/tunnel/agent"
	"github.com/skerry-io/skerry/bench/tunnel/bed"
	"github.com/skerry-io/skerry/bench/tunnel/system"
	"github.com/skerry-io/skerry/bench/tunnel/trace"
)

const (
	// stallEvery is the distance of echoes.
	stallEvery = 20 * time.Millisecond
	// stallSteady is how long they go on before the event.
	stallSteady = 5 * time.Second
	// stallIdle is how long after the event the user of an idle session types.
	stallIdle = time.Second
	// stallSettle is how long they go on after it.
	stallSettle = 5 * time.Second
	// stallWait bounds the wait for the first answer. yamux needs 40 s to see that
	// its connection is dead.
	stallWait      = 60 * time.Second
	stallWaitQuick = 20 * time.Second
)

// variant is what the session does when the event comes.
type variant int

const (
	idle variant = iota
	typing
	bulk
)

// event is what happens to a lane.
type event func(ctx context.Context, l *bed.Lane) error

func ipchangeBatches(r *runner, links []string) [][]task {
	return r.stallBatches("ipchange", r.systemsOf(), links, func(ctx context.Context, l *bed.Lane) error { return l.Move(ctx) })
}

// natBatches leaves out what goes by TCP: the emulator's NAT has UDP ports only.
func natBatches(r *runner, links []string) [][]task {
	var systems []system.System
	for _, sys := range r.systemsOf() {
		if !sys.TCP {
			systems = append(systems, sys)
		}
	}
	return r.stallBatches("nat", systems, links, func(ctx context.Context, l *bed.Lane) error { return l.Rebind(ctx) })
}

func (r *runner) stallBatches(what string, systems []system.System, links []string, e event) [][]task {
	var batch []task
	for _, link := range links {
		for _, sys := range systems {
			batch = append(
				batch,
				func(ctx context.Context) error { return r.quietStalls(ctx, what, link, sys, e) },
				func(ctx context.Context) error {
					s, err := r.stall(ctx, link, sys, bulk, e)
					if err == nil {
						r.record(link, sys, what+"_stall_bulk_ms", "ms", s.gap)
					}
					return err
				},
			)
		}
	}
	return [][]task{batch}
}

// quietStalls measures an idle session and one with somebody who types, and
// counts the worse.
func (r *runner) quietStalls(ctx context.Context, what, link string, sys system.System, e event) error {
	var stalls [2]stalled
	var g errgroup.Group
	for _, v := range []variant{idle, typing} {
		g.Go(func() (err error) {
			stalls[v], err = r.stall(ctx, link, sys, v, e)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	r.record(link, sys, what+"_stall_ms", "ms", max(stalls[idle].gap, stalls[typing].gap))
	r.record(link, sys, what+"_stall_idle_ms", "ms", stalls[idle].gap)
	r.record(link, sys, what+"_stall_typing_ms", "ms", stalls[typing].gap)
	r.record(link, sys, what+"_steady_gap_ms", "ms", stalls[typing].steady)
	for _, s := range stalls {
		lost := 0.0
		if s.lost {
			lost = 100
		}
		r.record(link, sys, what+"_session_lost_pct", "%", lost)
	}
	return nil
}

// stalled is what an event did.
type stalled struct {
	gap, steady float64 // the longest since the event, and that before it, in milliseconds
	lost        bool    // the session was dialed anew, or nothing came any more
}

// stall lets an event happen to a session.
func (r *runner) stall(ctx context.Context, link string, sys system.System, v variant, e event) (stalled, error) {
	var s stalled
	err := r.connected(ctx, link, sys, func(ctx context.Context, t *trial) error {
		if v == bulk {
			if err := t.edge.Call(ctx, agent.CallFlood, agent.FloodPlan{}, nil); err != nil {
				return err
			}
		}
		start := time.Now().Add(200 * time.Millisecond)
		at := start.Add(stallSteady)
		if v == idle {
			start = at.Add(stallIdle)
		}
		plan := agent.EchoPlan{
			Start: start, Every: stallEvery, Settle: stallSettle, Event: at,
			End: at.Add(r.pick(stallWait, stallWaitQuick)),
		}
		var seen trace.Trace
		echoed := make(chan error, 1)
		go func() { echoed <- t.edge.Call(ctx, agent.CallEcho, plan, &seen) }()
		if err := until(ctx, at); err != nil {
			return err
		}
		if err := e(ctx, t.lane); err != nil {
			return err
		}
		if err := <-echoed; err != nil {
			return err
		}
		var dials int
		if err := t.edge.Call(ctx, agent.CallDials, nil, &dials); err != nil {
			return err
		}
		// The first second is not steady: what both ends believe of the link is new.
		s.steady = seen.LongestGap(start.Add(time.Second), at)
		s.gap = seen.LongestGap(at, seen.End)
		_, resumed := seen.Resumed(at)
		s.lost = dials > 1 || !resumed
		return nil
	})
	return s, err
}
