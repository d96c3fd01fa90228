package kubeletfront

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the package. Labels are bounded: neither nodes nor pods are among them.
type metrics struct {
	streams  *prometheus.GaugeVec
	seconds  *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	refusals *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "skerry_kubeletfront_streams", Help: "Streams open now, by kind.",
		}, []string{"kind"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "skerry_kubeletfront_stream_seconds", Help: "How long streams lasted, by kind.",
			Buckets: []float64{.01, .03, .1, .3, 1, 3, 10, 60, 600, 3600},
		}, []string{"kind"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "skerry_kubeletfront_stream_bytes_total", Help: "Bytes of streams, by kind and by direction as the caller sees it.",
		}, []string{"kind", "direction"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "skerry_kubeletfront_refusals_total", Help: "Requests answered with an error by the proxy itself, by HTTP status.",
		}, []string{"code"}),
	}
	for _, c := range []prometheus.Collector{m.streams, m.seconds, m.bytes, m.refusals} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the kubelet front: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) refused(status int) { m.refusals.WithLabelValues(strconv.Itoa(status)).Inc() }
