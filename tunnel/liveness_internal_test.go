package tunnel

import (
	"testing"
	"time"
)

// What was under way when the path broke must not pass for an answer to what was
// written after.
func TestWhatWasUnderWayProvesNothing(t *testing.T) {
	const rtt = 600 * time.Millisecond
	now := time.Now()
	l := newLiveness(true, now, 10)
	o := observation{received: 10, rtt: rtt}
	l.step(now, o)

	now = now.Add(time.Second)
	start := now
	o.wrote = true
	v := l.step(now, o)
	o.wrote = false
	for steps := 0; !v.dead; steps++ {
		if v.next <= 0 || steps > 1000 {
			t.Fatalf("step %d wants to be called after %v", steps, v.next)
		}
		now = now.Add(v.next)
		if now.Sub(start) > 200*time.Millisecond {
			o.received = 11 // one packet, 200 ms after the write: not its answer
		}
		v = l.step(now, o)
	}
	if got, want := now.Sub(start), 200*time.Millisecond+deadAfter(rtt); got < want || got > want+deadAfter(rtt)/16 {
		t.Errorf("dead after %v, want about %v", got, want)
	}
}

func TestAnswerEndsTheAsking(t *testing.T) {
	const rtt = 60 * time.Millisecond
	now := time.Now()
	l := newLiveness(true, now, 10)
	o := observation{received: 10, rtt: rtt, wrote: true}
	v := l.step(now, o)
	o.wrote = false
	start := now
	for l.asking {
		if v.heartbeat || v.dead {
			t.Fatalf("after %v: %+v", now.Sub(start), v)
		}
		now = now.Add(v.next)
		if now.Sub(start) >= rtt {
			o.received = 11
		}
		v = l.step(now, o)
	}
	if v.next != idlePoll {
		t.Errorf("next step after %v, want %v", v.next, idlePoll)
	}
}

func TestAskAfter(t *testing.T) {
	tests := []struct {
		busy  bool
		quiet time.Duration
		want  time.Duration
	}{
		{false, 0, idleAsk},
		{false, time.Hour, idleAsk},
		{true, 0, time.Second},
		{true, 8 * time.Second, time.Second},
		{true, 80 * time.Second, 10 * time.Second},
		{true, time.Hour, idleAsk},
	}
	for _, tt := range tests {
		if got := askAfter(observation{busy: tt.busy, quiet: tt.quiet}); got != tt.want {
			t.Errorf("busy %t, quiet for %v: ask after %v, want %v", tt.busy, tt.quiet, got, tt.want)
		}
	}
}
