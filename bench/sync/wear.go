package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/bench/sync/edge"
	"github.com/skerry-io/skerry/bench/tunnel/agent"
)

const (
	wearCount      = 4000
	wearCountQuick = 1000
)

// wear lets the systems write the same changes to the disk, in turns.
func (b *bed) wear(ctx context.Context) error {
	e, err := b.edge(ctx, "wear")
	if err != nil {
		return err
	}
	systems := []string{ours, other}
	for n := range b.rounds * len(systems) {
		sys := systems[n%len(systems)]
		w, err := b.wearOf(ctx, e.Netns(), edge.WearPlan{
			Dir: e.Path(fmt.Sprintf("wear-%d", n)), Count: pick(b.options, wearCount, wearCountQuick), Websocket: sys == other,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", sys, err)
		}
		if w.Changed <= 0 || w.Written <= 0 {
			return fmt.Errorf("%s: %d bytes written for %d of changes; is %s on a disk?", sys, w.Written, w.Changed, b.dir)
		}
		b.samples.Add(results.Key{System: sys, Metric: "write_amplification", Unit: "times"}, float64(w.Written)/float64(w.Changed))
	}
	return nil
}

// wearOf runs a plan in a process that writes nothing else.
func (b *bed) wearOf(ctx context.Context, netns string, plan edge.WearPlan) (edge.Wear, error) {
	var w edge.Wear
	p, err := agent.Start(ctx, filepath.Base(netns), b.output)
	if err != nil {
		return w, err
	}
	err = p.Call(ctx, edge.CallWear, plan, &w)
	return w, errors.Join(err, p.Stop())
}
