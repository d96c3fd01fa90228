package cloudproxy

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/skerry-io/skerry/tunnel"
)

func TestBoundsMetrics(t *testing.T) {
	m := newBoundsMetrics(func() tunnel.ListenerStats {
		return tunnel.ListenerStats{
			Pending: 1, MaxPending: 2, RefusedPending: 3, AskedPending: 8, Memory: 4, MaxMemory: 5, RefusedStreams: 6, RefusedMemory: 7,
		}
	})
	if problems, err := testutil.CollectAndLint(m); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	const want = `
# HELP skerry_tunnel_address_checks_total First packets that had to prove their address, because many handshakes were pending.
# TYPE skerry_tunnel_address_checks_total counter
skerry_tunnel_address_checks_total 8
# HELP skerry_tunnel_refused_total What was refused because a bound was reached.
# TYPE skerry_tunnel_refused_total counter
skerry_tunnel_refused_total{bound="handshakes"} 3
skerry_tunnel_refused_total{bound="memory"} 7
skerry_tunnel_refused_total{bound="streams"} 6
`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), "skerry_tunnel_refused_total", "skerry_tunnel_address_checks_total"); err != nil {
		t.Error(err)
	}
}

func TestBoundsCheck(t *testing.T) {
	tests := []struct {
		b    Bounds
		want string
	}{
		{Bounds{}, ""},
		{Bounds{Handshakes: 1, Streams: 1, StreamMemory: 32 << 10, EdgeMemory: 1 << 20, Memory: 1 << 20}, ""},
		{Bounds{Handshakes: -1}, "max-handshakes"},
		{Bounds{Streams: -1}, "max-streams"},
		{Bounds{Streams: 1000}, ""},
		{Bounds{Streams: 1001}, "max-streams"},
		{Bounds{StreamMemory: 100}, "max-stream-memory"},
		{Bounds{EdgeRate: 1250}, ""},
		{Bounds{EdgeRate: 100}, "max-edge-rate"},
		{Bounds{EdgeRate: -1}, "max-edge-rate"},
		{Bounds{EdgeMemory: -5}, "max-edge-memory"},
		{Bounds{Memory: 1000}, "max-memory"},
	}
	for _, tt := range tests {
		err := tt.b.check()
		var c *ConfigError
		if got := errors.As(err, &c); got != (tt.want != "") || got && c.Field != tt.want {
			t.Errorf("%+v: got %v, want a complaint about %q", tt.b, err, tt.want)
		}
	}
}
