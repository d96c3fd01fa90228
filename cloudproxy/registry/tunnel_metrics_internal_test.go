package registry

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Streams of kinds that nobody knows share one series, and totals never shrink.
func TestGrowth(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newTunnelMetrics(func() []*tunnel.Session { return nil }, false)
	if err := reg.Register(m); err != nil {
		t.Fatal(err)
	}
	before := tunnel.Stats{Resumes: 1, ReplayedBytes: 10, ByKind: map[wire.Kind]tunnel.KindStats{wire.KindExec: {Streams: 1, Sent: 5, Received: 7}}}
	after := tunnel.Stats{Resumes: 3, ReplayedBytes: 10, ByKind: map[wire.Kind]tunnel.KindStats{
		wire.KindExec: {Streams: 2, Sent: 6, Received: 7}, 4711: {Streams: 1, Received: 100}, 4712: {Streams: 1, Received: 100},
	}}
	m.grow(&tunnel.Stats{}, &before)
	m.grow(&before, &after)
	m.grow(&after, &before)
	want := `
# HELP skerry_tunnel_replayed_bytes_total Bytes of streams sent again because their link was lost.
# TYPE skerry_tunnel_replayed_bytes_total counter
skerry_tunnel_replayed_bytes_total 10
# HELP skerry_tunnel_resumes_total Links that took the place of a lost one under a living session.
# TYPE skerry_tunnel_resumes_total counter
skerry_tunnel_resumes_total 3
# HELP skerry_tunnel_stream_received_bytes_total Payload of streams received from edges, by what they carry.
# TYPE skerry_tunnel_stream_received_bytes_total counter
skerry_tunnel_stream_received_bytes_total{kind="exec"} 7
skerry_tunnel_stream_received_bytes_total{kind="other"} 200
# HELP skerry_tunnel_stream_sent_bytes_total Payload of streams sent to edges, by what they carry.
# TYPE skerry_tunnel_stream_sent_bytes_total counter
skerry_tunnel_stream_sent_bytes_total{kind="exec"} 6
skerry_tunnel_stream_sent_bytes_total{kind="other"} 0
# HELP skerry_tunnel_streams_total Streams opened by either side, by what they carry.
# TYPE skerry_tunnel_streams_total counter
skerry_tunnel_streams_total{kind="exec"} 2
skerry_tunnel_streams_total{kind="other"} 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "skerry_tunnel_replayed_bytes_total", "skerry_tunnel_resumes_total",
		"skerry_tunnel_stream_received_bytes_total", "skerry_tunnel_stream_sent_bytes_total", "skerry_tunnel_streams_total"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}
