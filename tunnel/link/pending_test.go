package link

import (
	"net"
	"testing"
)

func TestPendingBySource(t *testing.T) {
	udp := func(ip string) net.Addr { return &net.UDPAddr{IP: net.ParseIP(ip), Port: 1} }
	p := newPending(8)
	var held []*ticket
	for range 4 {
		held = append(held, p.take(udp("192.0.2.1")))
	}
	tests := []struct {
		addr net.Addr
		ok   bool
	}{
		{udp("192.0.2.1"), false},
		{&net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 2}, false},
		{udp("2001:db8::1"), true},
		{udp("2001:db8::2"), true},
		{udp("2001:db8:0:0:1::2"), true},
		{udp("2001:db8:0:0:ffff::2"), true}, // the last of the network's half
		{udp("192.0.2.2"), false},           // and of all
	}
	for _, tt := range tests {
		got := p.take(tt.addr)
		if (got != nil) != tt.ok {
			t.Errorf("%v: a place %t, want %t", tt.addr, got != nil, tt.ok)
		}
		if got != nil {
			held = append(held, got)
		}
	}
	for _, tk := range held {
		tk.release()
		tk.release() // counts once
	}
	if now, refused := p.counts(); now != 0 || refused != 3 || len(p.by) != 0 {
		t.Errorf("%d places taken by %d sources, %d refused", now, len(p.by), refused)
	}
}

// Forged addresses must not take the places of the edge that they name.
func TestForgedSourceIsAskedFirst(t *testing.T) {
	victim, other := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1)}, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2)}
	p := newPending(8)
	for i := range 2 {
		if p.crowded(victim) {
			t.Errorf("asked for a proof with %d places taken", i)
		}
		p.take(victim)
	}
	if !p.crowded(victim) || p.crowded(other) {
		t.Errorf("crowded %t for a source with a quarter of the places, %t for another", p.crowded(victim), p.crowded(other))
	}
}
