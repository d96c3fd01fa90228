package pace

import (
	"testing"
	"time"
)

// A first packet on a path that takes much longer than was guessed is not given up
// before it can be acknowledged: no later one would do better.
func TestFirstAnswerMayTakeLong(t *testing.T) {
	s := NewSender[int](1200, 0, time.Millisecond)
	now := epoch
	s.Sent(now, 1200, 7, true)
	for range 100 {
		at := s.Deadline()
		if at.IsZero() || at.After(epoch.Add(800*time.Millisecond)) {
			break
		}
		now = at
		s.Expire(now, func(int) {})
	}
	var got int
	if !s.Ack(epoch.Add(800*time.Millisecond), []Range{{0, 0}}, 0, func(n int) { got = n }, func(int) {}) || got != 7 {
		t.Errorf("the packet that has arrived is %d, want 7", got)
	}
	if s.RTT() != 800*time.Millisecond {
		t.Errorf("round trip of %v, want 800ms", s.RTT())
	}
}

// Probes long before the first bulk do not make its start slower.
func TestProbesDoNotSlowTheStart(t *testing.T) {
	s := NewSender[int](1200, 0, 600*time.Millisecond)
	none := func(int) {}
	now := epoch
	for n := range uint64(4) {
		s.Sent(now, 1200, 0, true)
		now = now.Add(600 * time.Millisecond)
		s.Ack(now, []Range{{n, n}}, 0, none, none)
		now = now.Add(time.Second)
	}
	n := 0
	for end := now.Add(600 * time.Millisecond); ; n++ {
		d, ok := s.Wait(now)
		if now = now.Add(d); !ok || now.After(end) {
			break
		}
		s.Sent(now, 1200, 0, false)
	}
	if n < firstWindow {
		t.Errorf("%d packets in the first round trip of bulk, want %d", n, firstWindow)
	}
}
