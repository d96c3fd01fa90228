package main

import (
	"math"
	"testing"
	"time"
)

var start = time.Unix(1_000_000, 0)

func TestLineSerialises(t *testing.T) {
	// 1,000 bytes a millisecond, and 30 ms of way.
	l := newLine(settings{rate: 1e6, queue: 3000, delay: 30 * time.Millisecond}, 1)
	for i, want := range []time.Duration{31, 32, 33} {
		at, v := l.admit(start, 1000, false)
		if got := at.Sub(start); v != deliver || got != want*time.Millisecond {
			t.Errorf("packet %d: got %v after %v, want delivery after %d ms", i, v, got, want)
		}
	}
	if _, v := l.admit(start, 1000, false); v != dropQueue {
		t.Errorf("got %v for a full queue", v)
	}
	// A millisecond later one packet has left the queue.
	if at, v := l.admit(start.Add(time.Millisecond), 1000, false); v != deliver || at.Sub(start) != 34*time.Millisecond {
		t.Errorf("got %v at %v, want delivery after 34 ms", v, at.Sub(start))
	}
	// An idle line starts afresh.
	if at, _ := l.admit(start.Add(time.Second), 1000, false); at.Sub(start) != 1031*time.Millisecond {
		t.Errorf("delivery after %v, want 1.031 s", at.Sub(start))
	}
}

func TestLinePerfect(t *testing.T) {
	l := newLine(settings{}, 1)
	if at, v := l.admit(start, 65535, true); v != deliver || at != start {
		t.Errorf("got %v at %v, want delivery at once", v, at)
	}
}

func TestLineCut(t *testing.T) {
	tests := []struct {
		name string
		set  settings
		udp  bool
		want verdict
	}{
		{"outage", settings{outage: true}, false, dropCut},
		{"udp blocked", settings{udpBlock: true}, true, dropCut},
		{"tcp where udp is blocked", settings{udpBlock: true}, false, deliver},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, got := newLine(tt.set, 1).admit(start, 100, tt.udp); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// lossOf sends n packets and returns the share lost and the mean length of
// the runs of lost ones.
func lossOf(t *testing.T, s settings, seed uint64) (share, burst float64) {
	t.Helper()
	const n = 200_000
	l := newLine(s, seed)
	lost, bursts, before := 0, 0, false
	for range n {
		_, v := l.admit(start, 100, true)
		if now := v == dropLoss; now {
			lost++
			if !before {
				bursts++
			}
			before = true
		} else {
			before = false
		}
	}
	return float64(lost) / n, float64(lost) / float64(max(bursts, 1))
}

func TestLineLoss(t *testing.T) {
	e, err := lookupProfile("E")
	if err != nil {
		t.Fatal(err)
	}
	e.rate = 0 // the queue is not the matter here
	tests := []struct {
		name         string
		set          settings
		share, burst float64
	}{
		{"uniform 5 %", settings{loss: 0.05}, 0.05, 1 / 0.95},
		{"uniform 1 %", settings{loss: 0.01}, 0.01, 1 / 0.99},
		{"all", settings{loss: 1}, 1, 200_000},
		{"bursts of profile E", e, 0.1, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			share, burst := lossOf(t, tt.set, 7)
			if math.Abs(share-tt.share) > 0.1*tt.share || math.Abs(burst-tt.burst) > 0.1*tt.burst {
				t.Errorf("share %.4f in bursts of %.2f, want %.4f and %.2f", share, burst, tt.share, tt.burst)
			}
			again, _ := lossOf(t, tt.set, 7)
			if again != share {
				t.Error("the same seed gave other losses")
			}
		})
	}
}

func TestLineJitterKeepsOrder(t *testing.T) {
	l := newLine(settings{delay: 10 * time.Millisecond, jitter: 5 * time.Millisecond}, 3)
	last, moved := time.Time{}, false
	for i := range 1000 {
		now := start.Add(time.Duration(i) * 100 * time.Microsecond)
		at, _ := l.admit(now, 100, false)
		if at.Before(last) {
			t.Fatalf("packet %d overtakes", i)
		}
		if d := at.Sub(now); d < 10*time.Millisecond || d > 15*time.Millisecond {
			t.Fatalf("packet %d takes %v", i, d)
		}
		moved = moved || at.Sub(now) != 10*time.Millisecond
		last = at
	}
	if !moved {
		t.Error("there was no jitter")
	}
}

func TestLineReorder(t *testing.T) {
	l := newLine(settings{delay: 10 * time.Millisecond, reorder: 0.25, reorderDelay: 3 * time.Millisecond}, 3)
	late := 0
	for range 10_000 {
		at, v := l.admit(start, 100, false)
		switch d := at.Sub(start); {
		case v == deliverLate && d == 13*time.Millisecond:
			late++
		case v == deliver && d == 10*time.Millisecond:
		default:
			t.Fatalf("got %v after %v", v, d)
		}
	}
	if late < 2300 || late > 2700 {
		t.Errorf("%d of 10,000 are late, want about 2,500", late)
	}
}
