package registry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct{ replaced prometheus.Counter }

// newMetrics registers what the table says of itself; what can be counted when it
// is asked for is not counted before.
func newMetrics(reg prometheus.Registerer, r *Registry) (*metrics, error) {
	m := &metrics{replaced: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "skerry_registry_replaced_total",
		Help: "Sessions that ended because a newer one of the same edge came.",
	})}
	if reg == nil {
		return m, nil
	}
	sessions := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "skerry_registry_sessions",
		Help: "Edges that are connected to this proxy.",
	}, func() float64 { return float64(len(r.live())) })
	streams := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "skerry_registry_streams_open",
		Help: "Open streams of all edges, whichever side opened them.",
	}, func() float64 {
		n := 0
		for _, s := range r.live() {
			n += s.Stats().Streams
		}
		return float64(n)
	})
	return m, errors.Join(reg.Register(m.replaced), reg.Register(sessions), reg.Register(streams))
}
