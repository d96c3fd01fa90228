package model

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (w *world) cutLine() {
	w.line.cut()
	w.note("cut")
}

// cutLater cuts the line at some byte to come.
func (w *world) cutLater() {
	n := 1 + w.rng.IntN(5000)
	w.line.cutAfter(n)
	w.note("cut in %d bytes", n)
}

func (w *world) resetLine() {
	w.line.reset()
	w.note("reset")
}

// strandCloud has the line break so that the cloud does not notice.
func (w *world) strandCloud() {
	w.line.strand()
	w.note("cloud is stranded")
}

func (w *world) mendLine() {
	w.line.mend()
	w.note("mend")
}

func (w *world) crashEdge() {
	w.edge.restart(true)
	w.line.mend()
	w.note("edge crashed")
}

func (w *world) crashLater() {
	n := 1 + w.rng.IntN(60)
	w.edge.arm(n)
	w.note("edge crashes in %d operations", n)
}

func (w *world) restartEdge() {
	w.edge.restart(false)
	w.note("edge restarted")
}

func (w *world) current() *replica { return w.replicas[len(w.replicas)-1] }

// crashCloud ends the process that has the edge, and starts another after a while.
func (w *world) crashCloud() {
	w.note("cloud crashes")
	last := w.current()
	w.replicas = w.replicas[:len(w.replicas)-1]
	w.line.set(nil)
	last.halt()
	wait(time.Duration(w.rng.IntN(5000)) * time.Millisecond)
	if len(w.replicas) > 0 && w.rng.IntN(2) == 0 {
		w.line.set(w.current())
		return
	}
	w.takeover()
}

// takeover has another replica take the edge, new or there before. It may be behind.
func (w *world) takeover() {
	if len(w.replicas) > 1 {
		w.line.set(w.replicas[0])
		w.replicas[0], w.replicas[1] = w.replicas[1], w.replicas[0]
		w.note("takeover by the other replica")
		return
	}
	r := newReplica(w.T, fmt.Sprint("cloud-", len(w.trace)), w.objects, w.line, rand.New(rand.NewPCG(w.rng.Uint64(), 9)))
	r.api.turn(func(a *apiserver) {
		a.latency = time.Duration(1+w.rng.IntN(40)) * time.Millisecond
		a.lag = time.Duration(w.rng.IntN(2)*w.rng.IntN(5000)) * time.Millisecond
	})
	w.replicas = append(w.replicas, r)
	w.line.set(r)
	w.note("takeover by a new replica")
}

func (w *world) breakAPI() {
	for _, r := range w.replicas {
		r.api.turn(func(a *apiserver) {
			a.faults = w.rng.Float64()
			a.lag = time.Duration(w.rng.IntN(2)*w.rng.IntN(20000)) * time.Millisecond
		})
	}
	w.note("API breaks")
}

func (w *world) healAPI() {
	for _, r := range w.replicas {
		r.api.turn(func(a *apiserver) { a.faults = 0 })
	}
	w.note("API heals")
}

func (w *world) breakWatches() {
	for _, r := range w.replicas {
		r.api.breakWatches()
	}
}

func (w *world) rest() { wait(time.Duration(w.rng.IntN(3000)) * time.Millisecond) }

// sleep lets tokens age, in some schedules: an hour is ten thousands of ticks of
// Pebble's.
func (w *world) sleep() {
	if w.rng.IntN(4) == 0 {
		wait(time.Duration(w.rng.IntN(120)) * time.Minute)
		w.note("slept")
	}
}

// replaceMany has the pods of a StatefulSet replaced again and again while the edge is
// away.
func (w *world) replaceMany() {
	pod := w.pod()
	if pod == nil || len(pod.Finalizers) > 0 {
		return
	}
	w.cutLine()
	for range 2 + w.rng.IntN(10) {
		now, ok := w.objects.get(podIDOf(pod)).(*corev1.Pod)
		if !ok {
			return
		}
		w.replace(now)
		wait(time.Duration(w.rng.IntN(2)*w.rng.IntN(2000)) * time.Millisecond)
	}
}

// rejoin has another machine join under the name of this one, which is broken. What
// was bound to it may have been taken away, or wait.
func (w *world) rejoin() {
	w.edge.wipe()
	w.ledger.forget()
	w.note("edge is gone")
	wait(time.Duration(w.rng.IntN(40)) * time.Second)
	if w.rng.IntN(2) == 0 {
		w.forgetEdge()
	}
	wait(time.Duration(w.rng.IntN(40)) * time.Second)
	w.line.mend()
	w.edge.start()
	w.note("edge has joined again")
}

// forgetEdge takes the Node away, and what is bound to it, as the garbage collector
// does.
func (w *world) forgetEdge() {
	for _, k := range []id{{"nodes", "", node}, {"leases", corev1.NamespaceNodeLease, node}} {
		_, _ = w.objects.remove(k, &metav1.DeleteOptions{}) // may never have been
	}
	pods, _ := w.objects.all("pods", time.Now())
	for _, k := range slices.SortedFunc(maps.Keys(pods), func(a, b id) int { return strings.Compare(a.name, b.name) }) {
		if pod, ok := pods[k].(*corev1.Pod); ok && pod.Spec.NodeName == node {
			w.remove(pod, true)
		}
	}
	w.note("node is deleted")
}

func (w *world) fillDisk() {
	free := []uint64{little, little, scraps, 0}[w.rng.IntN(4)]
	w.edge.leave(free)
	w.note("disk has %d KiB", free>>10)
	for range w.rng.IntN(4) {
		w.speak()
	}
}

func (w *world) clearDisk() { w.edge.leave(plenty) }

// freezeReplica has what one replica sees stand still for long.
func (w *world) freezeReplica() {
	r := w.replicas[w.rng.IntN(len(w.replicas))]
	r.api.turn(func(a *apiserver) { a.lag = time.Duration(1+w.rng.IntN(240)) * time.Minute })
	r.api.breakWatches()
	w.note("a replica sees what was")
}
