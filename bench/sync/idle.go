package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/bench/sync/objects"
	"github.com/skerry-io/skerry/tests/lab"
)

const (
	idleLink = "B"
	idlePods = 10
	// idleRest is how long edges rest before they are measured, and idleLeast how
	// long they are measured at least; the other scenarios run meanwhile.
	idleRest  = 20 * time.Second
	idleLeast = 3 * time.Minute
)

// idleWatch measures edges on which nothing happens: one with the real agent, a
// runtime and pods, and one of the other kind.
type idleWatch struct {
	bed  *bed
	ends []*end
	// The following belong to begin and end.
	begin  time.Time
	before map[*end]int64
	failed chan error
}

func (b *bed) beginIdle(ctx context.Context) (*idleWatch, error) {
	real, err := b.realEdge(ctx)
	if err != nil {
		return nil, err
	}
	e, err := b.end(ctx, "idle", idleLink, other)
	if err != nil {
		return nil, err
	}
	w := &idleWatch{bed: b, ends: []*end{{Edge: real, system: ours, link: idleLink}, e}, failed: make(chan error, 1)}
	var pods []*corev1.Pod
	var configMaps []*corev1.ConfigMap
	for i := range idlePods {
		configMaps = append(configMaps, objects.ConfigMap(fmt.Sprintf("idle-%d", i), uint64(i)))
		for _, node := range []string{real.Name, e.Name} {
			pods = append(pods, objects.Pod(fmt.Sprintf("%s-%d", node, i), node, lab.BusyboxImage, []string{configMaps[i].Name}))
		}
	}
	m, err := b.create(ctx, configMaps, pods)
	if err != nil {
		return nil, err
	}
	if err := m.await(ctx, w.ends[1:]); err != nil {
		return nil, err
	}
	err = lab.Until(ctx, patience, "the pods of the idle edge", func() error {
		list, err := b.client.CoreV1().Pods(objects.Namespace).List(ctx, metav1.ListOptions{
			FieldSelector: fields.Set{"spec.nodeName": real.Name, "status.phase": string(corev1.PodRunning)}.String(),
		})
		if err == nil && len(list.Items) != idlePods {
			err = fmt.Errorf("%d of %d run", len(list.Items), idlePods)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := profiles(ctx, w.ends); err != nil {
		return nil, err
	}
	// The others need not wait for it.
	go func() {
		err := wait(ctx, idleRest)
		if err == nil {
			w.begin = time.Now()
			w.before, err = traffic(ctx, w.ends)
		}
		w.failed <- err
	}()
	return w, nil
}

// realEdge brings up an edge with everything.
func (b *bed) realEdge(ctx context.Context) (*lab.Edge, error) {
	b.number++
	e, err := b.lab.Edge("idle-skerry-b", b.number)
	if err != nil {
		return nil, err
	}
	if err := e.StartMachine(ctx, loading); err != nil {
		return nil, err
	}
	if err := e.Join(ctx, b.token); err != nil {
		return nil, err
	}
	if err := e.StartAgent(ctx); err != nil {
		return nil, err
	}
	return e, e.WaitReady(ctx, patience)
}

func (w *idleWatch) end(ctx context.Context) error {
	if err := <-w.failed; err != nil {
		return err
	}
	if err := wait(ctx, time.Until(w.begin.Add(idleLeast))); err != nil {
		return err
	}
	after, err := traffic(ctx, w.ends)
	if err != nil {
		return err
	}
	seconds := time.Since(w.begin).Seconds()
	const day = 24 * 60 * 60
	for _, e := range w.ends {
		w.bed.add(e, "idle_bytes_day", "bytes", float64(after[e]-w.before[e])/seconds*day)
	}
	w.bed.samples.Add(results.Key{Link: idleLink, System: ours, Metric: "idle_measured_s", Unit: "s"}, seconds)
	return nil
}
