package model

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestStale: a replica that does not notice that it has lost the edge tries an older
// status again when another one has written a newer.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(0)
		w := &world{T: t, rng: rand.New(rand.NewPCG(1, 7)), objects: newObjects(), ledger: newLedger(t), line: l}
		w.objects.written = w.ledger.written
		w.edge = newEdge(t, rand.New(rand.NewPCG(1, 8)), w.line, w.objects, w.ledger)
		w.takeover()
		w.edge.start()
		for len(w.edge.pods()) == 0 {
			w.makePod()
			wait(time.Second)
		}
		pod := w.edge.pods()[0]
		w.current().api.turn(func(a *apiserver) { a.faults = 1 })
		w.edge.status(pod, corev1.PodRunning)
		wait(3 * time.Second)
		l.mu.Lock()
		for s := range l.streams {
			s.edge.end()
		}
		clear(l.streams)
		l.mu.Unlock()
		w.takeover()
		w.current().api.turn(func(a *apiserver) { a.faults = 0 })
		w.edge.status(pod, corev1.PodRunning)
		wait(5 * time.Second)
		w.settle()
		w.check()
		w.edge.halt()
		w.line.set(nil)
		for _, r := range w.replicas {
			r.halt()
		}
	})
}
