package main

import (
	"context"
	"time"

	"github.com/skerry-io/skerry/bench/tunnel/agent"
	"github.com/skerry-io/skerry/bench/tunnel/system"
	"github.com/skerry-io/skerry/bench/tunnel/trace"
)

const (
	// outageAsk is when the message is sent that waits for the link.
	outageAsk = 500 * time.Millisecond
	// outageWait bounds the wait for its answer; stock timers take up to a minute.
	outageWait      = 90 * time.Second
	outageWaitQuick = 30 * time.Second
)

// outageBatches runs all lengths at once: a line on which nothing moves costs
// no CPU.
func outageBatches(r *runner, links []string) [][]task {
	var batch []task
	for _, length := range r.outages {
		batch = append(batch, r.forAll(links, func(ctx context.Context, link string, sys system.System) error {
			return r.connected(ctx, link, sys, func(ctx context.Context, t *trial) error {
				return r.outage(ctx, t, sys, length)
			})
		})...)
	}
	return [][]task{batch}
}

// outage takes the link away and gives it back.
func (r *runner) outage(ctx context.Context, t *trial, sys system.System, length time.Duration) error {
	wait := r.pick(outageWait, outageWaitQuick)
	begin := time.Now().Add(time.Second)
	if err := until(ctx, begin); err != nil {
		return err
	}
	if err := t.lane.Link(ctx, "set outage=1"); err != nil {
		return err
	}
	var answer trace.Sample
	asked := make(chan error, 1)
	go func() {
		asked <- t.edge.Call(ctx, agent.CallAsk, agent.AskPlan{At: begin.Add(outageAsk), Timeout: length + wait}, &answer)
	}()
	if err := until(ctx, begin.Add(length)); err != nil {
		return err
	}
	if err := t.lane.Link(ctx, "set outage=0"); err != nil {
		return err
	}
	back := time.Now()
	if err := <-asked; err != nil {
		return err
	}
	took := wait
	if !answer.Back.IsZero() {
		took = answer.Back.Sub(back)
	}
	r.record(t.link, sys, "outage_resume_s", "s", took.Seconds())
	return nil
}
