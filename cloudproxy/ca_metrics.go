package cloudproxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-io/skerry/cloudproxy/enroll"
)

// newCAMetrics tells when the CA ends, so that an alert can be made of it: what it signs
// ends with it, however often it is renewed.
func newCAMetrics(svc *enroll.Service) prometheus.Collector { //nolint:ireturn // what the registry takes
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "skerry_enroll_ca_expiry_timestamp_seconds",
		Help: "When the CA ends that signs the certificates of edges, in seconds since 1970.",
	}, func() float64 {
		state := svc.State()
		if state == nil {
			return 0 // not read yet
		}
		return float64(state.Signer().Certificate().NotAfter.Unix())
	})
}
