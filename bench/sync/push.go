package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/bench/sync/edge"
	"github.com/skerry-io/skerry/bench/sync/objects"
)

const (
	// What each edge of this scenario holds.
	pushPods       = 10
	pushConfigMaps = 100
	// pushEvery is the distance of changes, of which every podEvery-th is one of pods:
	// far enough that one at a time keeps up over link D, where it makes two a second.
	pushEvery      = 800 * time.Millisecond
	podEvery       = 4
	pushCount      = 40
	pushCountQuick = 15
	// burstCount is how many ConfigMaps change at once.
	burstCount = 50
	// sizeEvery is the distance of changes whose bytes are counted by kind.
	sizeEvery = 100 * time.Millisecond
	sizeCount = 20
	// pushTimeout is how long a change is waited for after the last one.
	pushTimeout = time.Minute
)

// pushLinks are those that push is measured over.
func pushLinks() []string { return []string{"A", "B", "D"} }

// push changes objects that all edges have, so that all feel the same writes.
func (b *bed) push(ctx context.Context) error {
	var ends []*end
	for _, link := range pushLinks() {
		both, err := b.pair(ctx, "push", link)
		if err != nil {
			return err
		}
		ends = append(ends, both...)
	}
	var configMaps []*corev1.ConfigMap
	for i := range pushConfigMaps {
		configMaps = append(configMaps, objects.ConfigMap(pushName(i), uint64(i)))
	}
	var pods []*corev1.Pod
	for _, e := range ends {
		pods = append(pods, podsNaming(e.Name, configMaps, pushConfigMaps/pushPods)...)
	}
	m, err := b.create(ctx, configMaps, pods)
	if err != nil {
		return err
	}
	if err := m.await(ctx, ends); err != nil {
		return err
	}
	if err := profiles(ctx, ends); err != nil {
		return err
	}
	for round := range b.rounds {
		if err := b.singles(ctx, ends, round); err != nil {
			return err
		}
		if !b.quick { // half a minute for one at a time
			if err := b.burst(ctx, ends, round); err != nil {
				return err
			}
		}
		b.log.Info("round done", "scenario", "push", "round", round+1, "of", b.rounds)
	}
	return b.sizes(ctx, ends[:2])
}

func pushName(i int) string { return fmt.Sprintf("push-%d", i) }

// podsNaming are pods of a node that name ConfigMaps, some each.
func podsNaming(node string, configMaps []*corev1.ConfigMap, each int) []*corev1.Pod {
	var pods []*corev1.Pod
	for chunk := range slices.Chunk(configMaps, each) {
		var names []string
		for _, cm := range chunk {
			names = append(names, cm.Name)
		}
		// The first one's name tells pods apart that are made later.
		pods = append(pods, objects.Pod(node+"-"+names[0], node, "registry.example.com/line/press:1.4.2", names))
	}
	return pods
}

// writes are the moments at which changes were sent to the API, by edge and mark,
// and how long those of ConfigMaps took there.
type writes struct {
	mu   sync.Mutex // guards the following fields
	at   map[*end]map[string]time.Time
	took []float64 // in milliseconds
}

// add notes a change that is about to be sent, and that ends will hear of.
func (w *writes) add(mark string, ends ...*end) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at == nil {
		w.at = map[*end]map[string]time.Time{}
	}
	for _, e := range ends {
		if w.at[e] == nil {
			w.at[e] = map[string]time.Time{}
		}
		w.at[e][mark] = now
	}
}

func (w *writes) answered(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took = append(w.took, milliseconds(took))
}

// singles makes changes one after the other.
func (b *bed) singles(ctx context.Context, ends []*end, round int) error {
	count := pick(b.options, pushCount, pushCountQuick)
	seen, bytes, err := b.series(ctx, ends, fmt.Sprintf("single %d", round), pushEvery, count, func(i int) bool { return i%podEvery == podEvery-1 })
	if err != nil {
		return err
	}
	for _, e := range ends {
		b.add(e, "push_p50_ms", "ms", results.Percentile(seen[e], 50))
		b.add(e, "push_p99_ms", "ms", results.Percentile(seen[e], 99))
		b.add(e, "push_change_bytes", "bytes", bytes[e])
	}
	return nil
}

// sizes tells what a change of each kind weighs, on a link that loses nothing.
func (b *bed) sizes(ctx context.Context, ends []*end) error {
	for _, kind := range []string{"configmap", "pod"} {
		_, bytes, err := b.series(ctx, ends, kind, sizeEvery, sizeCount, func(int) bool { return kind == "pod" })
		if err != nil {
			return err
		}
		for _, e := range ends {
			b.add(e, "push_"+kind+"_bytes", "bytes", bytes[e])
		}
	}
	return nil
}

// series makes changes one after the other, and gives how long they took and what
// each cost in bytes.
func (b *bed) series(ctx context.Context, ends []*end, mark string, every time.Duration, count int, ofPods func(i int) bool) (seen map[*end][]float64, bytes map[*end]float64, err error) {
	before, err := traffic(ctx, ends)
	if err != nil {
		return nil, nil, err
	}
	var w writes
	g, writing := errgroup.WithContext(ctx)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range count {
		select {
		case <-tick.C:
		case <-writing.Done():
			return nil, nil, g.Wait()
		}
		mark := fmt.Sprintf("%s %d", mark, i)
		if ofPods(i) {
			for _, e := range ends {
				w.add(mark, e)
				g.Go(func() error {
					return b.markPod(writing, e.Name+"-"+pushName(i%pushPods*(pushConfigMaps/pushPods)), mark)
				})
			}
			continue
		}
		w.add(mark, ends...)
		g.Go(func() error { return b.changeConfigMap(writing, i%pushConfigMaps, mark, &w) })
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	if seen, err = b.arrivals(ctx, ends, &w); err != nil {
		return nil, nil, err
	}
	after, err := traffic(ctx, ends)
	if err != nil {
		return nil, nil, err
	}
	if len(w.took) > 0 {
		b.samples.Add(results.Key{System: "kube-apiserver", Metric: "api_write_ms", Unit: "ms"}, results.Percentile(w.took, 50))
	}
	bytes = map[*end]float64{}
	for _, e := range ends {
		bytes[e] = float64(after[e]-before[e]) / float64(count)
	}
	return seen, bytes, nil
}

// burst changes many objects at once, as a rollout does.
func (b *bed) burst(ctx context.Context, ends []*end, round int) error {
	var w writes
	g, writing := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	mark := func(i int) string { return fmt.Sprintf("burst %d %d", round, i) }
	for i := range burstCount {
		w.add(mark(i), ends...)
	}
	for i := range burstCount {
		g.Go(func() error { return b.changeConfigMap(writing, i, mark(i), &w) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	seen, err := b.arrivals(ctx, ends, &w)
	if err != nil {
		return err
	}
	for _, e := range ends {
		b.add(e, "push_burst_s", "s", slices.Max(seen[e])/1000)
	}
	return nil
}

// arrivals gives how long changes took, in milliseconds. One that did not come
// counts with the time that it was waited for.
func (b *bed) arrivals(ctx context.Context, ends []*end, w *writes) (map[*end][]float64, error) {
	var mu sync.Mutex // guards the following field
	seen := map[*end][]float64{}
	g, ctx := errgroup.WithContext(ctx)
	for _, e := range ends {
		g.Go(func() error {
			sent := w.at[e]
			at, err := e.stored(ctx, slices.Sorted(maps.Keys(sent)), pushTimeout)
			if err != nil {
				return err
			}
			if len(at) < len(sent) {
				b.log.Warn("changes did not come", "edge", e.Name, "missing", len(sent)-len(at), "within", pushTimeout)
			}
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			for mark, begin := range sent {
				end, ok := at[mark]
				if !ok {
					end = now
				}
				seen[e] = append(seen[e], milliseconds(end.Sub(begin)))
			}
			return nil
		})
	}
	return seen, g.Wait()
}

// changeConfigMap writes new settings.
func (b *bed) changeConfigMap(ctx context.Context, i int, mark string, w *writes) error {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]string{edge.Mark: mark}},
		"data":     map[string]string{"settings.yaml": objects.Settings(uint64(crc32.ChecksumIEEE([]byte(mark))))},
	})
	if err != nil {
		return err
	}
	begin := time.Now()
	_, err = b.client.CoreV1().ConfigMaps(objects.Namespace).Patch(ctx, pushName(i), types.MergePatchType, body, metav1.PatchOptions{})
	w.answered(time.Since(begin))
	return err
}

// markPod writes an annotation of a pod.
func (b *bed) markPod(ctx context.Context, pod, mark string) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{edge.Mark: mark}}})
	if err != nil {
		return err
	}
	_, err = b.client.CoreV1().Pods(objects.Namespace).Patch(ctx, pod, types.MergePatchType, body, metav1.PatchOptions{})
	return err
}

func (b *bed) add(e *end, metric, unit string, values ...float64) {
	for _, v := range values {
		b.samples.Add(results.Key{Link: e.link, System: e.system, Metric: metric, Unit: unit}, v)
	}
}

// traffic counts the bytes on the edges' links.
func traffic(ctx context.Context, ends []*end) (map[*end]int64, error) {
	bytes := map[*end]int64{}
	for _, e := range ends {
		var err error
		if bytes[e], err = e.Traffic(ctx); err != nil {
			return nil, err
		}
	}
	return bytes, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
