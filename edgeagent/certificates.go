package edgeagent

import (
	"github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/pods/certificates"
	"github.com/skerry-io/skerry/edgeagent/report"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/edgeagent/uplink"
)

// certificates keeps the certificates of pods. They are due by the clock by which the
// cloud's is checked.
func (a *Agent) certificates(st *store.Store, fromCloud *desired.Objects, rep *report.Reporter, up *uplink.Uplink, shown func(key string)) (*certificates.Keeper, error) {
	return certificates.New(certificates.Config{
		Store: st, Answers: fromCloud, Reporter: rep, NodeName: a.cfg.NodeName,
		Now: a.clock.Now, Online: up.Connected, Shown: shown, Log: a.log,
	})
}

// both gives what is woken to the one and to the other.
func both(one, other func(key string)) func(key string) {
	return func(key string) {
		one(key)
		other(key)
	}
}

// either gives a key to the first who takes it.
func either(first func(key string) bool, rest func(key string)) func(key string) {
	return func(key string) {
		if !first(key) {
			rest(key)
		}
	}
}
