package desired

import "github.com/prometheus/client_golang/prometheus"

// metrics sums up all edges when it is asked: a name of an edge is no label.
type metrics struct {
	pub                             *Publisher
	streams, queued, behind, oldest *prometheus.Desc
}

func newMetrics(p *Publisher) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("skerry_desired_"+name, help, labels, nil)
	}
	return &metrics{
		pub:     p,
		streams: desc("streams", "Open desired streams, by whether the edge was told everything.", "synced"),
		queued:  desc("queued_objects", "Objects that are yet to be compared with what their edges hold, of all edges."),
		behind:  desc("behind_objects", "Objects that have not come to a step (stored, applied, running), of all edges.", "step"),
		oldest:  desc("lag_seconds", "For how long the oldest of behind_objects has been waiting.", "step"),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.streams, m.queued, m.behind, m.oldest} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	var stored, applied, running Behind
	synced, queued := 0, 0
	edges := m.pub.Edges()
	for i := range edges {
		e := &edges[i]
		if e.Synced {
			synced++
		}
		queued += e.Queued
		stored.join(e.Unstored)
		applied.join(e.Unapplied)
		running.join(e.Unrunning)
	}
	gauge(m.streams, float64(synced), "true")
	gauge(m.streams, float64(len(edges)-synced), "false")
	gauge(m.queued, float64(queued))
	for step, b := range map[string]Behind{"stored": stored, "applied": applied, "running": running} {
		gauge(m.behind, float64(b.Objects), step)
		gauge(m.oldest, b.Lag.Seconds(), step)
	}
}

func (b *Behind) join(other Behind) {
	b.Objects += other.Objects
	b.Lag = max(b.Lag, other.Lag)
}
