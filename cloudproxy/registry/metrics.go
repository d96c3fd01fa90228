package registry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	replaced prometheus.Counter
	tunnel   *tunnelMetrics
}

// newMetrics registers what the table says of itself and of its sessions.
func newMetrics(cfg *Config, r *Registry) (*metrics, error) {
	m := &metrics{
		replaced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skerry_registry_replaced_total",
			Help: "Sessions that ended because a newer one of the same edge came.",
		}),
		tunnel: newTunnelMetrics(r.live, cfg.EdgeMetrics),
	}
	if cfg.Registerer == nil {
		return m, nil
	}
	return m, errors.Join(cfg.Registerer.Register(m.replaced), cfg.Registerer.Register(m.tunnel))
}
