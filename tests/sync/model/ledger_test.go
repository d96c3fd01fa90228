package model

import (
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/cloudproxy/desired"
)

// ledger is what must be true in the end, and what must never happen. What the edge
// said is sure once it was stored and the power was still there; what was said at
// the moment of a crash may be told or not.
type ledger struct {
	t *testing.T

	mu       sync.Mutex // guards the following fields
	said     int
	statuses map[types.UID][]saying
	events   map[string][]saying
	forced   map[types.UID]bool  // pods that the test took away itself
	told     map[types.UID]int   // last status of each pod that the API was told
	held     map[types.UID]int64 // newest generation of each pod that the edge has stored
	calm     bool                // all faults are over, and were for a while
}

// saying is one thing that the edge said of a pod, or of an event.
type saying struct {
	n     int
	phase corev1.PodPhase
	at    time.Time
	sure  bool
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	return &ledger{
		t: t, statuses: make(map[types.UID][]saying), events: make(map[string][]saying),
		forced: make(map[types.UID]bool), told: make(map[types.UID]int),
		held: make(map[types.UID]int64),
	}
}

func message(uid types.UID, n int) string { return fmt.Sprintf("%s says %d", uid, n) }

// written looks at each write to the API.
func (l *ledger) written(c change) {
	before, _ := c.before.(*corev1.Pod)
	after, _ := c.after.(*corev1.Pod)
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, ok := c.after.(*corev1.Node); ok && l.calm {
		if ready := readyOf(n); ready.Status != corev1.ConditionTrue {
			l.t.Errorf("the Node of an edge that is there and well became %+v", ready)
		}
	}
	if after == nil && before != nil && before.DeletionTimestamp == nil && before.Spec.NodeName == node && !l.forced[before.UID] {
		l.t.Errorf("pod %s, %s, was taken from the API, and nobody had asked for that", before.Name, before.UID)
	}
	if after == nil {
		return
	}
	if is := storedOf(after); is.Status == corev1.ConditionTrue && (before == nil || storedOf(before) != is) && l.held[after.UID] < is.ObservedGeneration {
		l.t.Errorf("pod %s, %s, is said to be stored in generation %d, and the edge had %d at most", after.Name, after.UID, is.ObservedGeneration, l.held[after.UID])
	}
	if after.Status.Message == "" {
		return
	}
	n := 0
	if _, err := fmt.Sscanf(after.Status.Message, string(after.UID)+" says %d", &n); err != nil {
		l.t.Errorf("pod %s, %s, has the status %q", after.Name, after.UID, after.Status.Message)
	}
	if n < l.told[after.UID] {
		l.t.Errorf("pod %s, %s, has status %d after %d", after.Name, after.UID, n, l.told[after.UID])
	}
	l.told[after.UID] = n
}

// holds notes that the edge has stored a pod.
func (l *ledger) holds(pod *corev1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[pod.UID] = max(l.held[pod.UID], pod.Generation)
}

// storedOf gives the condition of a pod that says whether its edge has its spec.
func storedOf(pod *corev1.Pod) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == desired.ConditionStored {
			return c
		}
	}
	return corev1.PodCondition{}
}

// beCalm says that nothing may go wrong any more.
func (l *ledger) beCalm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calm = true
}

// readyOf gives the condition Ready of a Node.
func readyOf(n *corev1.Node) corev1.NodeCondition {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c
		}
	}
	return corev1.NodeCondition{}
}

// forget says that the machine is gone, with all that it had not told yet.
func (l *ledger) forget() {
	for _, all := range l.statuses {
		unsure(all)
	}
	for _, all := range l.events {
		unsure(all)
	}
}

func unsure(all []saying) {
	for i := range all {
		all[i].sure = false
	}
}

func (l *ledger) next() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said++
	return l.said
}

// possible gives what may be true in the end: the last that is sure, and what was
// said after it.
func possible(all []saying) (some []saying, sure bool) {
	for _, s := range all {
		if s.sure {
			some, sure = some[:0], true
		}
		some = append(some, s)
	}
	return some, sure
}

// check compares the API with what the edge said.
func (l *ledger) check(s *objects) {
	l.t.Helper()
	pods, _ := s.all("pods", time.Now())
	for _, o := range pods {
		pod, ok := o.(*corev1.Pod)
		if !ok || pod.Spec.NodeName != node {
			continue
		}
		some, sure := possible(l.statuses[pod.UID])
		good := !sure && pod.Status.Message == ""
		for _, want := range some {
			good = good || pod.Status.Message == message(pod.UID, want.n) && pod.Status.Phase == want.phase
		}
		if !good {
			l.t.Errorf("pod %s, %s, has status %q %s, want one of %+v", pod.Name, pod.UID, pod.Status.Message, pod.Status.Phase, some)
		}
		if is := storedOf(pod); is.Status == corev1.ConditionFalse {
			l.t.Errorf("pod %s, %s, of an edge that has everything: %+v", pod.Name, pod.UID, is)
		}
		if pod.DeletionTimestamp != nil && len(pod.Finalizers) == 0 {
			l.t.Errorf("pod %s, %s, is still there, %s after it was to be deleted", pod.Name, pod.UID, time.Since(pod.DeletionTimestamp.Time))
		}
	}
	events, _ := s.all("events", time.Now())
	for name, all := range l.events {
		some, sure := possible(all)
		ev, ok := events[id{"events", "default", name}].(*corev1.Event)
		if !ok {
			if sure {
				l.t.Errorf("event %s is lost: %+v", name, some)
			}
			continue
		}
		good := false
		for _, want := range some {
			good = good || ev.Count == int32(want.n) && ev.LastTimestamp.Time.Equal(want.at.Truncate(time.Second)) &&
				ev.FirstTimestamp.Time.Equal(all[0].at.Truncate(time.Second))
		}
		if !good {
			l.t.Errorf("event %s has count %d, times %v and %v, want one of %+v", name, ev.Count, ev.FirstTimestamp, ev.LastTimestamp, some)
		}
	}
	for k := range events {
		if l.events[k.name] == nil {
			l.t.Errorf("event %s was never said", k.name)
		}
	}
}
