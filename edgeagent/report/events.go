package report

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// repeatAfter is how often an event that repeats itself is sent: a container
	// that crashes all night should not fill the outbox with one line.
	repeatAfter = 30 * time.Second
	// forgetAfter is when a repetition counts as a new event, as at kubelets.
	forgetAfter = 10 * time.Minute
	// maxRemembered bounds the memory for repetitions.
	maxRemembered = 256
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
}

func newEvents(node string) *events {
	return &events{node: node, seen: make(map[eventKey]*seenEvent)}
}

// next gives the event to send, or nil when a repetition is only counted.
func (e *events) next(now time.Time, ref corev1.ObjectReference, kind, reason, message string) *corev1.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := eventKey{ref, kind, reason, message}
	s := e.seen[key]
	if s == nil || now.Sub(s.last) > forgetAfter {
		e.forgetLocked(now)
		s = &seenEvent{name: e.name(key, now), first: now}
		e.seen[key] = s
	}
	s.count++
	s.last = now
	if s.count > 1 && now.Sub(s.sent) < repeatAfter {
		return nil
	}
	s.sent = now
	return &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: ref.Namespace, Name: s.name},
		InvolvedObject:      ref,
		Type:                kind,
		Reason:              reason,
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
