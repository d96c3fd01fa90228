package registry

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// sampleInterval is how often round-trip times are taken. It does not depend on
// scrapes, so that two who scrape do not count each edge twice.
const sampleInterval = 15 * time.Second

// tunnelMetrics shows the figures of all sessions together. What a session has
// counted is added to the totals as it grows, so a total stays when the session
// goes. They are collected when they are asked for and every sampleInterval.
type tunnelMetrics struct {
	live     func() []*tunnel.Session // those in the table, one for each edge
	counters []statsCounter
	sessions prometheus.Counter
	streams  *prometheus.CounterVec // by kind, as are the following
	sent     *prometheus.CounterVec
	received *prometheus.CounterVec
	rtt      prometheus.Histogram
	gauges   tunnelGauges
	edges    *edgeMetrics // nil when they are not wanted

	mu   sync.Mutex // guards the following field
	seen map[*tunnel.Session]tunnel.Stats
}

// statsCounter is a total of one counter of all sessions.
type statsCounter struct {
	prometheus.Counter
	of func(*tunnel.Stats) uint64
}

// tunnelGauges are what sessions are like at the moment.
type tunnelGauges struct {
	sessions, attached, links, streams, buffered *prometheus.Desc
}

func newTunnelMetrics(live func() []*tunnel.Session, perEdge bool) *tunnelMetrics {
	counter := func(name, help string, of func(*tunnel.Stats) uint64) statsCounter {
		return statsCounter{prometheus.NewCounter(prometheus.CounterOpts{Name: "skerry_tunnel_" + name, Help: help}), of}
	}
	byKind := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "skerry_tunnel_" + name, Help: help}, []string{"kind"})
	}
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("skerry_tunnel_"+name, help, labels, nil)
	}
	m := &tunnelMetrics{
		live: live,
		seen: make(map[*tunnel.Session]tunnel.Stats),
		counters: []statsCounter{
			counter("links_total", "Links that sessions have had.", func(s *tunnel.Stats) uint64 { return s.Links }),
			counter("resumes_total", "Links that took the place of a lost one under a living session.", func(s *tunnel.Stats) uint64 { return s.Resumes }),
			counter("migrations_total", "Changes of an edge's address under a living link.", func(s *tunnel.Stats) uint64 { return s.Migrations }),
			counter("sent_bytes_total", "Bytes sent to edges, with all overhead but UDP's, TCP's and IP's.", func(s *tunnel.Stats) uint64 { return s.BytesSent }),
			counter("received_bytes_total", "Bytes received from edges, with all overhead but UDP's, TCP's and IP's.", func(s *tunnel.Stats) uint64 { return s.BytesReceived }),
			counter("sent_packets_total", "Packets sent to edges.", func(s *tunnel.Stats) uint64 { return s.PacketsSent }),
			counter("received_packets_total", "Packets received from edges.", func(s *tunnel.Stats) uint64 { return s.PacketsReceived }),
			counter("lost_packets_total", "Packets sent to edges that did not arrive.", func(s *tunnel.Stats) uint64 { return s.PacketsLost }),
			counter("replayed_bytes_total", "Bytes of streams sent again because their link was lost.", func(s *tunnel.Stats) uint64 { return s.ReplayedBytes }),
			counter("duplicate_bytes_total", "Bytes of streams received twice.", func(s *tunnel.Stats) uint64 { return s.DuplicateBytes }),
		},
		sessions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skerry_tunnel_sessions_total", Help: "Sessions that edges have begun.",
		}),
		streams:  byKind("streams_total", "Streams opened by either side, by what they carry."),
		sent:     byKind("stream_sent_bytes_total", "Payload of streams sent to edges, by what they carry."),
		received: byKind("stream_received_bytes_total", "Payload of streams received from edges, by what they carry."),
		rtt: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "skerry_tunnel_rtt_seconds", Help: "Smoothed round-trip times of edges that have a link, each taken every 15 seconds.",
			Buckets: []float64{.005, .01, .02, .05, .1, .2, .3, .5, .75, 1, 1.5, 2, 3, 5},
		}),
		gauges: tunnelGauges{
			sessions: gauge("sessions", "Sessions of edges, whether or not they have a link now."),
			attached: gauge("sessions_attached", "Sessions of edges that have a link now: the edges that are connected."),
			links:    gauge("links", "Sessions that have a link now, by the kind of the newest.", "link"),
			streams:  gauge("streams", "Open streams of all edges, whichever side opened them."),
			buffered: gauge("buffered_bytes", "Bytes of streams held in case they must go out again, or not read yet."),
		},
	}
	if perEdge {
		m.edges = newEdgeMetrics()
	}
	return m
}

// run takes round-trip times until ctx ends.
func (m *tunnelMetrics) run(ctx context.Context) {
	t := time.NewTicker(sampleInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		for _, s := range m.live() {
			if stats := s.Stats(); stats.Attached && stats.RTT > 0 {
				m.rtt.Observe(stats.RTT.Seconds())
			}
		}
		m.update()
	}
}

// add counts a session in.
func (m *tunnelMetrics) add(s *tunnel.Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions.Inc()
	m.seen[s] = tunnel.Stats{}
}

// remove takes a session's last figures.
func (m *tunnelMetrics) remove(s *tunnel.Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.updateLocked(s)
	delete(m.seen, s)
}

func (m *tunnelMetrics) update() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.seen {
		m.updateLocked(s)
	}
}

// updateLocked adds what a session has counted since it was last asked.
func (m *tunnelMetrics) updateLocked(s *tunnel.Session) {
	last, now := m.seen[s], s.Stats()
	m.seen[s] = now
	m.grow(&last, &now)
}

// grow adds what lies between two looks at a session.
func (m *tunnelMetrics) grow(last, now *tunnel.Stats) {
	for _, c := range m.counters {
		c.Add(growth(c.of(last), c.of(now)))
	}
	for kind, n := range now.ByKind {
		label, was := kindLabel(kind), last.ByKind[kind]
		m.streams.WithLabelValues(label).Add(growth(was.Streams, n.Streams))
		m.sent.WithLabelValues(label).Add(growth(was.Sent, n.Sent))
		m.received.WithLabelValues(label).Add(growth(was.Received, n.Received))
	}
}

func growth(last, now uint64) float64 {
	if now < last {
		return 0
	}
	return float64(now - last)
}

// kindLabel keeps edges from making up series: they may open streams of any kind.
func kindLabel(k wire.Kind) string {
	if s := k.String(); !strings.HasPrefix(s, "kind-") {
		return s
	}
	return "other"
}

// Describe implements prometheus.Collector.
func (m *tunnelMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
	g := &m.gauges
	for _, d := range []*prometheus.Desc{g.sessions, g.attached, g.links, g.streams, g.buffered} {
		ch <- d
	}
	if m.edges != nil {
		m.edges.describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *tunnelMetrics) Collect(ch chan<- prometheus.Metric) {
	m.update()
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
	var attached, streams int
	var buffered int64
	links := map[string]int{"quic": 0, "tls": 0}
	sessions := m.live()
	for _, s := range sessions {
		stats := s.Stats()
		streams += stats.Streams
		buffered += stats.Buffered
		if stats.Attached {
			attached++
		}
		if stats.Link != "" {
			links[stats.Link]++
		}
		if m.edges != nil {
			m.edges.collect(ch, s.Peer().Node, &stats)
		}
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(m.gauges.sessions, float64(len(sessions)))
	gauge(m.gauges.attached, float64(attached))
	gauge(m.gauges.streams, float64(streams))
	gauge(m.gauges.buffered, float64(buffered))
	for kind, n := range links {
		gauge(m.gauges.links, float64(n), kind)
	}
}

// collectors are those that keep their values themselves.
func (m *tunnelMetrics) collectors() []prometheus.Collector {
	all := []prometheus.Collector{m.sessions, m.streams, m.sent, m.received, m.rtt}
	for _, c := range m.counters {
		all = append(all, c.Counter)
	}
	return all
}
