package registry_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/skerry-io/skerry/cloudproxy/registry"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// metric reads one series, the only one of its name unless label is given.
func (f *fixture) metric(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := f.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if label != "" && (len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() != label) {
				continue
			}
			switch {
			case m.GetCounter() != nil:
				return m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				return m.GetGauge().GetValue()
			default:
				return float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	t.Fatalf("there is no %s{%s}", name, label)
	return 0
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		f.dial(t, "edge-1", 1, 1)
		f.dial(t, "edge-1", 1, 2)
		f.dial(t, "edge-2", 1, 1)
		c, err := f.DialEdge(t.Context(), "edge-2", wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want := `
# HELP skerry_registry_replaced_total Sessions that ended because a newer one of the same edge came.
# TYPE skerry_registry_replaced_total counter
skerry_registry_replaced_total 1
# HELP skerry_tunnel_links Sessions that have a link now, by the kind of the newest.
# TYPE skerry_tunnel_links gauge
skerry_tunnel_links{link="quic"} 2
skerry_tunnel_links{link="tls"} 0
# HELP skerry_tunnel_links_total Links that sessions have had.
# TYPE skerry_tunnel_links_total counter
skerry_tunnel_links_total 3
# HELP skerry_tunnel_sessions Sessions of edges, whether or not they have a link now.
# TYPE skerry_tunnel_sessions gauge
skerry_tunnel_sessions 2
# HELP skerry_tunnel_sessions_attached Sessions of edges that have a link now: the edges that are connected.
# TYPE skerry_tunnel_sessions_attached gauge
skerry_tunnel_sessions_attached 2
# HELP skerry_tunnel_sessions_total Sessions that edges have begun.
# TYPE skerry_tunnel_sessions_total counter
skerry_tunnel_sessions_total 3
# HELP skerry_tunnel_streams Open streams of all edges, whichever side opened them.
# TYPE skerry_tunnel_streams gauge
skerry_tunnel_streams 1
`
		if err := testutil.GatherAndCompare(f.metrics, strings.NewReader(want), "skerry_registry_replaced_total",
			"skerry_tunnel_links", "skerry_tunnel_links_total", "skerry_tunnel_sessions", "skerry_tunnel_sessions_attached",
			"skerry_tunnel_sessions_total", "skerry_tunnel_streams"); err != nil {
			t.Error(err)
		}
	})
}

func TestMetricsLint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startWith(t, registry.Config{EdgeMetrics: true}, nil)
		f.dial(t, "edge-1", 1, 1)
		tunneltest.Pass(time.Minute)
		problems, err := testutil.GatherAndLint(f.metrics)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		if n := f.metric(t, "skerry_tunnel_rtt_seconds", ""); n != 4 {
			t.Errorf("%v round-trip times in a minute, want 4", n)
		}
		if got := f.metric(t, "skerry_tunnel_edge_attached", "edge-1"); got != 1 {
			t.Errorf("edge-1 is attached: %v, want 1", got)
		}
	})
}

// A total never goes down, also when sessions end and the proxy forgets them.
func TestTotalsOutliveSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		names := []string{"skerry_tunnel_sent_bytes_total", "skerry_tunnel_received_packets_total", "skerry_tunnel_links_total"}
		last := make(map[string]float64)
		check := func(when string) {
			t.Helper()
			for _, name := range names {
				got := f.metric(t, name, "")
				if got < last[name] || got == 0 {
					t.Errorf("%s %s is %v, was %v", name, when, got, last[name])
				}
				last[name] = got
			}
		}
		first := f.dial(t, "edge-1", 1, 1)
		check("at first")
		f.dial(t, "edge-1", 2, 1)
		check("with another session")
		first.Close(wire.CodeOK, "")
		f.Close("edge-1", wire.CodeRevoked, "")
		tunneltest.Pass(time.Minute)
		check("after the last session")
		if n := f.metric(t, "skerry_tunnel_sessions", ""); n != 0 {
			t.Errorf("%v sessions are left", n)
		}
		f.dial(t, "edge-1", 3, 1)
		check("with a new session")
		if got := f.metric(t, "skerry_tunnel_links_total", ""); got != 3 {
			t.Errorf("%v links, want 3", got)
		}
	})
}

func TestMetricsWhileDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		f.dial(t, "edge-1", 1, 1)
		f.net.Outage(true)
		f.waitChange(t, "the link is lost", func() bool { return !f.connected() })
		for name, want := range map[string]float64{"skerry_tunnel_sessions": 1, "skerry_tunnel_sessions_attached": 0} {
			if got := f.metric(t, name, ""); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		if got := f.metric(t, "skerry_tunnel_links", "quic"); got != 0 {
			t.Errorf("%v links, want 0", got)
		}
		f.net.Outage(false)
		f.waitChange(t, "the edge is back", f.connected)
		if got := f.metric(t, "skerry_tunnel_resumes_total", ""); got != 1 {
			t.Errorf("%v resumes, want 1", got)
		}
	})
}
