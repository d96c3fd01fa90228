package cloudproxy

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-io/skerry/tunnel"
)

// mostStreams is the tunnel's own limit.
const mostStreams = 1000

// leastRate is the least that Bounds.EdgeRate may be, in bytes per second: with less a
// pod's desired state takes minutes.
const leastRate = 1250

// Bounds are what edges, and strangers who say that they are, can make the proxy
// hold. Zero means the default of each.
type Bounds struct {
	// Handshakes is how many connections may be there whose peer is not known yet, by
	// QUIC and by TCP each; 256.
	Handshakes int
	// Streams is how many streams an edge may have open at once; 256, at most 1000.
	Streams int
	// StreamMemory is how many bytes one direction of a stream may hold; 1 MiB. Where
	// packets carry it (tunnel.ListenConfig.MaxWindow) that may be four times as many.
	StreamMemory int64
	// EdgeMemory is how many bytes all streams of an edge may hold, Memory those of all
	// edges; 32 MiB and 4 GiB.
	EdgeMemory, Memory int64
	// EdgeRate is how many bytes of bulk an edge is sent in a second, at least 1250; zero
	// means as many as its link takes.
	EdgeRate int64
}

func (b Bounds) check() error {
	for _, v := range []struct {
		name         string
		value, least int64
	}{
		{"max-handshakes", int64(b.Handshakes), 1},
		{"max-streams", int64(b.Streams), 1},
		{"max-stream-memory", b.StreamMemory, 32 << 10},
		{"max-edge-memory", b.EdgeMemory, 1 << 20},
		{"max-memory", b.Memory, 1 << 20},
	} {
		switch {
		case v.value != 0 && v.value < v.least && v.least > 1:
			return &ConfigError{v.name, "is too little to work with: at least 32Ki per stream, 1Mi per edge and in all"}
		case v.value < 0:
			return &ConfigError{v.name, "is negative"}
		}
	}
	if b.EdgeRate != 0 && b.EdgeRate < leastRate {
		return &ConfigError{"max-edge-rate", fmt.Sprintf("is less than %d bits per second", 8*leastRate)}
	}
	if b.Streams > mostStreams {
		return &ConfigError{"max-streams", fmt.Sprintf("is more than %d, which the tunnel can't resume at once", mostStreams)}
	}
	return nil
}

// boundsMetrics shows what the tunnel's bounds hold back.
type boundsMetrics struct {
	stats                                        func() tunnel.ListenerStats
	pending, maxPending, memory, maxMemory, over *prometheus.Desc
	asked                                        *prometheus.Desc
}

func newBoundsMetrics(stats func() tunnel.ListenerStats) *boundsMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("skerry_tunnel_"+name, help, labels, nil)
	}
	return &boundsMetrics{
		stats:      stats,
		pending:    desc("handshakes_pending", "Connections whose peer is not known yet."),
		maxPending: desc("handshakes_pending_limit", "How many of them may be there, by QUIC and by TCP each."),
		memory:     desc("memory_bytes", "Bytes that the streams of all edges may hold now."),
		maxMemory:  desc("memory_limit_bytes", "The most that they may."),
		asked:      desc("address_checks_total", "First packets that had to prove their address, because many handshakes were pending."),
		over:       desc("refused_total", "What was refused because a bound was reached.", "bound"),
	}
}

// Describe implements prometheus.Collector.
func (m *boundsMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.pending, m.maxPending, m.memory, m.maxMemory, m.over, m.asked} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *boundsMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.stats()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	gauge(m.pending, float64(s.Pending))
	gauge(m.maxPending, float64(s.MaxPending))
	gauge(m.memory, float64(s.Memory))
	gauge(m.maxMemory, float64(s.MaxMemory))
	ch <- prometheus.MustNewConstMetric(m.asked, prometheus.CounterValue, float64(s.AskedPending))
	for bound, n := range map[string]uint64{"handshakes": s.RefusedPending, "streams": s.RefusedStreams, "memory": s.RefusedMemory} {
		ch <- prometheus.MustNewConstMetric(m.over, prometheus.CounterValue, float64(n), bound)
	}
}
