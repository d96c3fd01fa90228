package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/bench/tunnel/agent"
	"github.com/skerry-io/skerry/bench/tunnel/system"
)

// How long bulk flows, with its start. On a LAN that is over at once.
const (
	bulkTime      = 22 * time.Second
	bulkTimeQuick = 10 * time.Second
	bulkTimeLAN   = 6 * time.Second
)

// bulkBatches runs the systems of a link at once. Links share a batch up to
// what the emulators do beside each other without being felt.
func bulkBatches(r *runner, links []string) [][]task {
	const atOnce = 100 // Mbit/s
	lans, others := splitLAN(links)
	batches := oneByOne(append(r.forAll(lans, r.bulkUp), r.forAll(lans, r.bulkDown)...))
	for _, direction := range []func(context.Context, string, system.System) error{r.bulkUp, r.bulkDown} {
		var batch []task
		rate := 0.0
		for _, link := range others {
			all := rateOf(link) * float64(len(r.systemsOf()))
			if rate += all; rate > atOnce && len(batch) > 0 {
				batches = append(batches, batch)
				batch, rate = nil, all
			}
			batch = append(batch, r.forAll([]string{link}, direction)...)
		}
		if len(batch) > 0 {
			batches = append(batches, batch)
		}
	}
	return batches
}

// rateOf is a link's, in Mbit/s.
func rateOf(link string) float64 {
	i := slices.IndexFunc(results.Links(), func(l results.Link) bool { return l.Name == link })
	return results.Links()[i].Mbit
}

func (r *runner) bulkTime(link string) time.Duration {
	if link == lan {
		return bulkTimeLAN
	}
	return r.pick(bulkTime, bulkTimeQuick)
}

// bulkUp fills the link from the edge to the cloud, as a log does, while
// somebody types.
func (r *runner) bulkUp(ctx context.Context, link string, sys system.System) error {
	return r.connected(ctx, link, sys, func(ctx context.Context, t *trial) error {
		begin := time.Now()
		end := begin.Add(r.bulkTime(link))
		if err := t.edge.Call(ctx, agent.CallFlood, agent.FloodPlan{}, nil); err != nil {
			return err
		}
		type share struct {
			percent float64
			err     error
		}
		counted := make(chan share, 1)
		go func() {
			percent, err := t.share(ctx, t.cloud, agent.CallReceived, begin, end)
			counted <- share{percent, err}
		}()
		seen, err := t.echoes(ctx, begin.Add(time.Second), end)
		if err != nil {
			return err
		}
		s := <-counted
		if s.err != nil {
			return s.err
		}
		r.record(link, sys, "bulk_up_share", "%", s.percent)
		r.recordEchoes(t, sys, "echo_bulk", seen)
		return nil
	})
}

// bulkDown fills the link from the cloud to the edge.
func (r *runner) bulkDown(ctx context.Context, link string, sys system.System) error {
	return r.connected(ctx, link, sys, func(ctx context.Context, t *trial) error {
		begin := time.Now()
		if err := t.edge.Call(ctx, agent.CallFlood, agent.FloodPlan{Down: true}, nil); err != nil {
			return err
		}
		percent, err := t.share(ctx, t.edge, agent.CallFlooded, begin, begin.Add(r.bulkTime(link)))
		if err == nil {
			r.record(link, sys, "bulk_down_share", "%", percent)
		}
		return err
	})
}

// share is what arrived from begin to end, in percent of what the link carries.
func (t *trial) share(ctx context.Context, receiver *agent.Process, call string, begin, end time.Time) (float64, error) {
	if err := until(ctx, end); err != nil {
		return 0, err
	}
	var bytes int64
	if err := receiver.Call(ctx, call, nil, &bytes); err != nil {
		return 0, err
	}
	seconds := time.Since(begin).Seconds()
	if bytes == 0 {
		return 0, fmt.Errorf("no bulk in %.0f s", seconds)
	}
	const mega = 1e6
	return 100 * float64(bytes) * 8 / mega / seconds / rateOf(t.link), nil
}
