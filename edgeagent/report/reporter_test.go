package report

import (
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestEvents(t *testing.T) {
	e := newEvents("e1")
	at := time.Unix(1000, 0)
	ref := corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web", UID: "u"}
	first, _ := e.next(at, ref, "Normal", "Started", "started")
	if first == nil || first.Count != 1 {
		t.Fatalf("first event: %+v", first)
	}
	if ev, _ := e.next(at.Add(time.Second), ref, "Normal", "Started", "started"); ev != nil {
		t.Errorf("repetition after a second was sent: %+v", ev)
	}
	again, _ := e.next(at.Add(40*time.Second), ref, "Normal", "Started", "started")
	if again == nil || again.Name != first.Name || again.Count != 3 || !again.FirstTimestamp.Time.Equal(at) {
		t.Errorf("repetition: %+v", again)
	}
	if other, _ := e.next(at, ref, "Normal", "Started", "other"); other == nil || other.Name == first.Name {
		t.Errorf("other event: %+v", other)
	}
	if late, _ := e.next(at.Add(time.Hour), ref, "Normal", "Started", "started"); late == nil || late.Count != 1 || late.Name == first.Name {
		t.Errorf("after an hour: %+v", late)
	}
	node, _ := e.next(at, corev1.ObjectReference{Kind: "Node", Name: "e1", UID: "e1"}, "Warning", "ImageGCFailed", "why")
	if node == nil || node.Namespace != "default" || node.InvolvedObject.Namespace != "" {
		t.Errorf("event about the node, which the API wants in the default namespace: %+v", node)
	}
	for i := range 2 * maxRemembered {
		e.next(at.Add(time.Hour), ref, "Normal", "Reason", time.Duration(i).String())
	}
	if len(e.seen) > maxRemembered {
		t.Errorf("%d events remembered, bound %d", len(e.seen), maxRemembered)
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestRepetitions: a container that crashes all night.
func TestRepetitions(t *testing.T) {
	e := newEvents("e1")
	ref := corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web", UID: "u"}
	at := time.Unix(1000, 0)
	sent, last := 0, int32(0)
	name := ""
	for i := range 8 * 360 {
		ev, old := e.next(at.Add(time.Duration(i)*10*time.Second), ref, "Warning", "BackOff", "back-off")
		if ev == nil {
			continue
		}
		if old != uint64(sent) {
			t.Fatalf("sending %d takes the place of entry %d", sent+1, old)
		}
		sent++
		e.stored(ref, ev.Name, uint64(sent))
		if name == "" {
			name = ev.Name
		}
		if ev.Name != name || !ev.FirstTimestamp.Time.Equal(at) || ev.Count <= last {
			t.Fatalf("repetition %+v after count %d", ev, last)
		}
		last = ev.Count
	}
	// Twenty in the first ten minutes, then twelve an hour.
	if sent < 110 || sent > 120 || last < 8*360-30 {
		t.Errorf("%d sent in eight hours, the last with count %d", sent, last)
	}
}

// TestSimilarEvents: messages that hold a time or an address.
func TestSimilarEvents(t *testing.T) {
	e := newEvents("e1")
	ref := corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web", UID: "u"}
	at := time.Unix(1000, 0)
	names := make(map[string]int32)
	var text string
	for i := range 200 {
		ev, _ := e.next(at.Add(time.Duration(i)*time.Second), ref, "Warning", "Unhealthy", "probe failed at "+time.Duration(i).String())
		if ev != nil {
			names[ev.Name], text = ev.Count, ev.Message
		}
	}
	if len(names) != maxSimilar+1 || text != combined+"probe failed at 190ns" {
		t.Errorf("%d events, the last %q", len(names), text)
	}
	if other, _ := e.next(at, ref, "Warning", "Other", "text"); other == nil || other.Message != "text" {
		t.Errorf("another reason: %+v", other)
	}
}
