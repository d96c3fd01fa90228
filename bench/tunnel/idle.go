package main

import (
	"context"
	"errors"
	"time"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/bench/tunnel/agent"
	"github.com/skerry-io/skerry/bench/tunnel/system"
)

const (
	// idleParallel is how many handshakes are under way at once.
	idleParallel = 32
	// idleSettle is how long sessions rest before their memory is read.
	idleSettle = 3 * time.Second
)

// idleBatches lets the systems take turns, since the CPU is the limit.
func idleBatches(r *runner, _ []string) [][]task {
	return oneByOne(r.forAll([]string{results.NoLink}, func(ctx context.Context, _ string, sys system.System) error {
		return r.idle(ctx, sys)
	}))
}

// idle makes many sessions over the loopback device and reads what they cost.
func (r *runner) idle(ctx context.Context, sys system.System) (err error) {
	lane, err := r.bed.Take(ctx)
	if err != nil {
		return err
	}
	defer r.bed.Give(lane)
	server, err := lane.Cloud(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	client, err := lane.Cloud(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Stop()) }()
	endpoint := agent.Endpoint{System: sys.Name, Authority: r.authority, Address: "127.0.0.1:" + port}
	if err := server.Call(ctx, agent.CallServe, endpoint, nil); err != nil {
		return err
	}
	// One session, so that what all share is not counted to them.
	plan := agent.ManyPlan{Endpoint: endpoint, Count: 1, Parallel: 1}
	if err := client.Call(ctx, agent.CallMany, plan, nil); err != nil {
		return err
	}
	var before, after [2]int64
	for i, p := range []*agent.Process{server, client} {
		if err := p.Call(ctx, agent.CallMemory, nil, &before[i]); err != nil {
			return err
		}
	}
	plan.Count, plan.Parallel = r.sessions, idleParallel
	var perSecond float64
	if err := client.Call(ctx, agent.CallMany, plan, &perSecond); err != nil {
		return err
	}
	if err := until(ctx, time.Now().Add(idleSettle)); err != nil {
		return err
	}
	for i, p := range []*agent.Process{server, client} {
		if err := p.Call(ctx, agent.CallMemory, nil, &after[i]); err != nil {
			return err
		}
		const kilo = 1000
		metric := []string{"idle_kb_server", "idle_kb_client"}[i]
		r.record("", sys, metric, "KB", float64(after[i]-before[i])/float64(r.sessions)/kilo)
	}
	r.record("", sys, "handshakes_per_s", "1/s", perSecond)
	return nil
}
