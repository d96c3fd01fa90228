package main

import (
	"context"
	"slices"
	"time"

	"github.com/skerry-io/skerry/bench/tunnel/agent"
	"github.com/skerry-io/skerry/bench/tunnel/system"
	"github.com/skerry-io/skerry/bench/tunnel/trace"
)

const (
	// blockTries is how often a connection is made.
	blockTries = 3
	// blockWait bounds the wait for data. A system that needs UDP never has any,
	// and then no row.
	blockWait      = 15 * time.Second
	blockWaitQuick = 8 * time.Second
	// blockEvery is the distance of the echoes of a session that loses UDP.
	blockEvery = 100 * time.Millisecond
)

func udpblockBatches(r *runner, links []string) [][]task {
	return [][]task{append(r.forAll(links, r.blockedFromStart), r.forAll(links, r.blockedMidway)...)}
}

// blockedFromStart connects where UDP does not get through.
func (r *runner) blockedFromStart(ctx context.Context, link string, sys system.System) error {
	return r.trial(ctx, link, sys, func(ctx context.Context, t *trial) error {
		if err := t.lane.Link(ctx, "set udpblock=1"); err != nil {
			return err
		}
		wait := r.pick(blockWait, blockWaitQuick)
		plan := agent.FirstPlan{Endpoint: t.endpoint, Count: blockTries, Timeout: wait, Total: blockTries * wait}
		var ms []float64
		if err := t.edge.Call(ctx, agent.CallFirst, plan, &ms); err != nil {
			return err
		}
		if !slices.ContainsFunc(ms, func(v float64) bool { return v < float64(wait.Milliseconds()) }) {
			r.noFigure("no data while udp is blocked", link, sys)
			return nil
		}
		for _, v := range ms {
			r.record(link, sys, "udpblock_start_s", "s", v/1000)
		}
		return nil
	})
}

// blockedMidway takes UDP away from a session in use.
func (r *runner) blockedMidway(ctx context.Context, link string, sys system.System) error {
	return r.connected(ctx, link, sys, func(ctx context.Context, t *trial) error {
		start := time.Now().Add(200 * time.Millisecond)
		at := start.Add(3 * time.Second)
		plan := agent.EchoPlan{
			Start: start, Every: blockEvery, Settle: time.Second, Event: at, End: at.Add(2 * r.pick(blockWait, blockWaitQuick)),
		}
		var seen trace.Trace
		echoed := make(chan error, 1)
		go func() { echoed <- t.edge.Call(ctx, agent.CallEcho, plan, &seen) }()
		if err := until(ctx, at); err != nil {
			return err
		}
		if err := t.lane.Link(ctx, "set udpblock=1"); err != nil {
			return err
		}
		if err := <-echoed; err != nil {
			return err
		}
		back, ok := seen.Resumed(at)
		if !ok {
			r.noFigure("no data after udp was blocked", link, sys)
			return nil
		}
		r.record(link, sys, "udpblock_mid_s", "s", back.Sub(at).Seconds())
		return nil
	})
}

// noFigure tells what leaves no figure, since it would be infinite.
func (r *runner) noFigure(why, link string, sys system.System) {
	r.log.Info("no figure", "why", why, "system", sys.Name, "link", link)
}
