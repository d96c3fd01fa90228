package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/bench/sync/edge"
	"github.com/skerry-io/skerry/bench/sync/objects"
)

const (
	// reconnectLink is that of the scenario.
	reconnectLink = "B"
	// theObjects is the number whose figures have no number in their names.
	theObjects = 1000
	// podShare is how many objects come with a pod, itself among them.
	podShare = 10
	// Reconnects of one edge with the same objects: at most that many, and none after
	// reconnectTotal.
	reconnects      = 4
	reconnectsQuick = 2
	reconnectTotal  = 25 * time.Second
	// settle is how long the bytes of an end, and what comes after Synced, are waited
	// for.
	settle = time.Second
)

// reconnectCounts are the numbers of objects.
func (o options) reconnectCounts() []int {
	return pick(o, []int{0, 10, 100, theObjects, 5000}, []int{0, theObjects})
}

// reconnect ends sessions and makes new ones, with tickets of the one before,
// while nothing changes.
func (b *bed) reconnect(ctx context.Context) error {
	ends, err := b.pair(ctx, "reconnect", reconnectLink)
	if err != nil {
		return err
	}
	have := 0
	bytes := map[*end]map[int]float64{} // medians by number of objects
	for _, e := range ends {
		bytes[e] = map[int]float64{}
	}
	for _, count := range b.reconnectCounts() {
		begin := time.Now()
		if err := b.grow(ctx, ends, have, count); err != nil {
			return err
		}
		have = count
		made := time.Since(begin)
		if err := profiles(ctx, ends); err != nil {
			return err
		}
		var g errgroup.Group
		seen := make([]reconnected, len(ends))
		for i, e := range ends {
			g.Go(func() (err error) {
				seen[i], err = b.reconnectEdge(ctx, e)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i, e := range ends {
			b.add(e, metricOf("bytes", count), "bytes", seen[i].bytes...)
			b.add(e, metricOf("ms", count), "ms", seen[i].ms...)
			bytes[e][count] = results.Percentile(seen[i].bytes, 50)
		}
		b.log.Info("edges have reconnected", "objects", count, "made", made.Round(100*time.Millisecond),
			"took", (time.Since(begin) - made).Round(100*time.Millisecond))
	}
	for _, e := range ends {
		b.add(e, "reconnect_objects_bytes", "bytes", bytes[e][theObjects]-bytes[e][0])
	}
	return nil
}

// grow makes objects while edges are away, and waits until they have them: one
// that takes one at a time takes a list faster.
func (b *bed) grow(ctx context.Context, ends []*end, have, count int) error {
	configMaps := reconnectConfigMaps(have, count)
	var pods []*corev1.Pod
	for _, e := range ends {
		pods = append(pods, podsNaming(e.Name, configMaps, podShare-1)...)
		if err := e.process.Call(ctx, edge.CallDisconnect, nil, nil); err != nil {
			return err
		}
	}
	m, err := b.create(ctx, configMaps, pods)
	if err != nil {
		return err
	}
	for _, e := range ends {
		if err := e.SetLink(ctx, "profile", loading); err != nil {
			return err
		}
		if err := e.connect(ctx, nil); err != nil {
			return err
		}
	}
	return m.await(ctx, ends)
}

// reconnectConfigMaps are those that an edge lacks to come from a number of objects
// to another one; the rest of the difference are the pods that name them.
func reconnectConfigMaps(have, count int) []*corev1.ConfigMap {
	var configMaps []*corev1.ConfigMap
	for i := range (count - have) * (podShare - 1) / podShare {
		configMaps = append(configMaps, objects.ConfigMap(fmt.Sprintf("reconnect-%d-%d", count, i), uint64(i)))
	}
	return configMaps
}

// reconnected are the figures of some reconnects.
type reconnected struct{ bytes, ms []float64 }

func (b *bed) reconnectEdge(ctx context.Context, e *end) (reconnected, error) {
	var r reconnected
	begin := time.Now()
	for n := 0; n < pick(b.options, reconnects, reconnectsQuick) && (n == 0 || time.Since(begin) < reconnectTotal); n++ {
		if err := e.process.Call(ctx, edge.CallDisconnect, nil, nil); err != nil {
			return r, err
		}
		if err := wait(ctx, settle); err != nil {
			return r, err
		}
		before, err := e.Traffic(ctx)
		if err != nil {
			return r, err
		}
		var took time.Duration
		if err := e.connect(ctx, &took); err != nil {
			return r, err
		}
		if err := wait(ctx, settle); err != nil {
			return r, err
		}
		after, err := e.Traffic(ctx)
		if err != nil {
			return r, err
		}
		r.bytes = append(r.bytes, float64(after-before))
		r.ms = append(r.ms, milliseconds(took))
	}
	return r, nil
}

// metricOf names the figures of a number of objects.
func metricOf(unit string, count int) string {
	if count == theObjects {
		return "reconnect_" + unit
	}
	return fmt.Sprintf("reconnect_%d_%s", count, unit)
}
