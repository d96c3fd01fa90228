package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// repeatAfter is how often an event that repeats itself is sent, and repeatSlowly
	// how often after the first repeatBurst times: a container that crashes all night
	// must neither fill the outbox nor the link with one line. Kubelets do likewise.
	repeatAfter  = 30 * time.Second
	repeatSlowly = 5 * time.Minute
	repeatBurst  = 20
	// forgetAfter is when a repetition counts as a new event, as at kubelets.
	forgetAfter = 10 * time.Minute
	// maxRemembered bounds the memory for repetitions.
	maxRemembered = 256
	// maxSimilar is how many events may differ in their messages alone; what comes
	// on top is one event, as at kubelets. Such messages hold addresses or times.
	maxSimilar = 10
	combined   = "(combined from similar events): "
)

// events turns what happens into API events and counts repetitions.
type events struct {
	node string

	mu   sync.Mutex // guards the following fields
	seen map[eventKey]*seenEvent
}

type eventKey struct {
	ref                   corev1.ObjectReference
	kind, reason, message string
}

type seenEvent struct {
	name        string
	count       int32
	first, last time.Time
	sent        time.Time
	sends       int
	seq         uint64 // of its last entry in the outbox
}

func newEvents(node string) *events {
	return &events{node: node, seen: make(map[eventKey]*seenEvent)}
}

// next gives the event to send, or nil when a repetition is only counted. old is
// the outbox's entry that it takes the place of, if that is still there.
func (e *events) next(now time.Time, ref corev1.ObjectReference, kind, reason, message string) (ev *corev1.Event, old uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := eventKey{ref, kind, reason, message}
	s := e.seen[key]
	if (s == nil || now.Sub(s.last) > forgetAfter) && e.similarLocked(key, now) >= maxSimilar {
		key.message = combined
		message = combined + message
		s = e.seen[key]
	}
	if s == nil || now.Sub(s.last) > forgetAfter {
		e.forgetLocked(now)
		s = &seenEvent{name: e.name(key, now), first: now}
		e.seen[key] = s
	}
	s.count++
	s.last = now
	wait := repeatAfter
	if s.sends >= repeatBurst {
		wait = repeatSlowly
	}
	if s.count > 1 && now.Sub(s.sent) < wait {
		return nil, 0
	}
	s.sent = now
	s.sends++
	return e.event(key, s, message), s.seq
}

// stored notes where the outbox holds an event that next gave.
func (e *events) stored(ref corev1.ObjectReference, name string, seq uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, s := range e.seen {
		if s.name == name && k.ref == ref {
			s.seq = max(s.seq, seq)
			return
		}
	}
}

// similarLocked counts the events that differ from key by their message alone.
func (e *events) similarLocked(key eventKey, now time.Time) int {
	n := 0
	for k, s := range e.seen {
		if k.ref == key.ref && k.kind == key.kind && k.reason == key.reason && k.message != combined && now.Sub(s.last) <= forgetAfter {
			n++
		}
	}
	return n
}

func (e *events) event(key eventKey, s *seenEvent, message string) *corev1.Event {
	ref := key.ref
	return &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: cmp.Or(ref.Namespace, metav1.NamespaceDefault), Name: s.name},
		InvolvedObject:      ref,
		Type:                key.kind,
		Reason:              key.reason,
		Message:             message,
		FirstTimestamp:      metav1.NewTime(s.first),
		LastTimestamp:       metav1.NewTime(s.last),
		Count:               s.count,
		Source:              corev1.EventSource{Component: "kubelet", Host: e.node},
		ReportingController: "kubelet",
		ReportingInstance:   e.node,
	}
}

// name is the same however often the event is sent.
func (e *events) name(key eventKey, first time.Time) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s\n%s\n%s\n%d",
		e.node, key.ref.UID, key.ref.FieldPath, key.kind, key.reason, key.message, first.UnixNano()))
	object := key.ref.Name
	if len(object) > 200 { // names end at 253
		object = object[:200]
	}
	return object + "." + hex.EncodeToString(sum[:8])
}

// forgetLocked makes room for one more.
func (e *events) forgetLocked(now time.Time) {
	var oldest eventKey
	var at time.Time
	for k, s := range e.seen {
		switch {
		case now.Sub(s.last) > forgetAfter:
			delete(e.seen, k)
		case at.IsZero() || s.last.Before(at):
			oldest, at = k, s.last
		}
	}
	if len(e.seen) >= maxRemembered {
		delete(e.seen, oldest)
	}
}
