package registry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-io/skerry/tunnel"
)

// edgeMetrics are series for each edge that has a session. Counters begin anew
// with an edge's next session, as those of a program that was started again do.
type edgeMetrics struct{ all []edgeMetric }

type edgeMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*tunnel.Stats) float64
}

func newEdgeMetrics() *edgeMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("skerry_tunnel_edge_"+name, help, []string{"edge"}, nil)
	}
	return &edgeMetrics{[]edgeMetric{
		{desc("attached", "1 while the edge's session has a link, else 0."), prometheus.GaugeValue, func(s *tunnel.Stats) float64 {
			if s.Attached {
				return 1
			}
			return 0
		}},
		{desc("rtt_seconds", "Smoothed round-trip time of the edge."), prometheus.GaugeValue, func(s *tunnel.Stats) float64 { return s.RTT.Seconds() }},
		{desc("streams", "Open streams of the edge."), prometheus.GaugeValue, func(s *tunnel.Stats) float64 { return float64(s.Streams) }},
		{desc("sent_bytes_total", "Bytes sent to the edge."), prometheus.CounterValue, func(s *tunnel.Stats) float64 { return float64(s.BytesSent) }},
		{desc("received_bytes_total", "Bytes received from the edge."), prometheus.CounterValue, func(s *tunnel.Stats) float64 { return float64(s.BytesReceived) }},
		{desc("sent_packets_total", "Packets sent to the edge."), prometheus.CounterValue, func(s *tunnel.Stats) float64 { return float64(s.PacketsSent) }},
		{desc("lost_packets_total", "Packets sent to the edge that did not arrive."), prometheus.CounterValue, func(s *tunnel.Stats) float64 { return float64(s.PacketsLost) }},
		{desc("resumes_total", "Links of the edge that took the place of a lost one."), prometheus.CounterValue, func(s *tunnel.Stats) float64 { return float64(s.Resumes) }},
	}}
}

func (m *edgeMetrics) describe(ch chan<- *prometheus.Desc) {
	for _, e := range m.all {
		ch <- e.desc
	}
}

func (m *edgeMetrics) collect(ch chan<- prometheus.Metric, edge string, s *tunnel.Stats) {
	for _, e := range m.all {
		ch <- prometheus.MustNewConstMetric(e.desc, e.kind, e.value(s), edge)
	}
}
