package report

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// register shows Stats as metrics.
func (r *Receiver) register(reg prometheus.Registerer) error {
	for result, read := range map[string]func(Stats) uint64{
		"written":    func(s Stats) uint64 { return s.Written },
		"superseded": func(s Stats) uint64 { return s.Superseded },
		"gone":       func(s Stats) uint64 { return s.Gone },
		"refused":    func(s Stats) uint64 { return s.Refused },
		"foreign":    func(s Stats) uint64 { return s.Foreign },
		"unwanted":   func(s Stats) uint64 { return s.Unwanted },
		"retried":    func(s Stats) uint64 { return s.Retried },
	} {
		err := reg.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "skerry_report_reports_total", Help: "Reports of edges, by what became of them; retried counts attempts.",
			ConstLabels: prometheus.Labels{"result": result},
		}, func() float64 { return float64(read(r.Stats())) }))
		if err != nil {
			return fmt.Errorf("register metrics of reports: %w", err)
		}
	}
	return nil
}
