package edgeagent

import (
	"context"
	"time"

	"github.com/skerry-io/skerry/edgeagent/bus"
	"github.com/skerry-io/skerry/edgeagent/bus/embedded"
	"github.com/skerry-io/skerry/edgeagent/bus/external"
	"github.com/skerry-io/skerry/edgeagent/devices"
	"github.com/skerry-io/skerry/edgeagent/report"
	"github.com/skerry-io/skerry/edgeagent/stats"
	"github.com/skerry-io/skerry/edgeagent/store"
)

// localBus is what programs beside the devices talk to. A nil one is none.
type localBus struct {
	bus   *bus.Bus
	own   *embedded.Broker // nil: it is another's
	other *external.Client // nil: it is the agent's own
}

// devices makes what runs the devices, and the local bus if there is to be one.
func (a *Agent) devices(st *store.Store, rep *report.Reporter) (*devices.Manager, *localBus, error) {
	cfg := devices.Config{Store: st, Report: rep, Drivers: a.cfg.Drivers, Node: a.cfg.NodeName, Log: a.log}
	var field *devices.Manager
	local, err := a.localBus(func(namespace, name string) (devices.Live, bool) { return field.Live(namespace, name) })
	if err != nil {
		return nil, nil, err
	}
	if local != nil {
		cfg.Bus = local.bus
	}
	field, err = devices.New(cfg)
	return field, local, err
}

func (a *Agent) localBus(live func(namespace, name string) (devices.Live, bool)) (*localBus, error) {
	c := a.cfg.Bus
	if c.Listen == "" && c.Broker == "" {
		return nil, nil
	}
	b, err := bus.New(bus.Config{Live: live, Node: a.cfg.NodeName, Log: a.log})
	if err != nil {
		return nil, err
	}
	l := &localBus{bus: b}
	if c.Listen != "" {
		l.own, err = embedded.New(embedded.Config{
			Listen: c.Listen, CertFile: c.CertFile, KeyFile: c.KeyFile, UsersFile: c.UsersFile, MaxClients: c.MaxClients,
			Node: a.cfg.NodeName, Version: a.cfg.Version, Command: b.Received, Log: a.log,
		})
		return l, err
	}
	l.other, err = external.New(external.Config{
		Broker: c.Broker, CAFile: c.CAFile, UserName: c.UserName, PasswordFile: c.PasswordFile,
		Node: a.cfg.NodeName, Version: a.cfg.Version, Command: b.Received, Log: a.log,
	})
	return l, err
}

func (l *localBus) run(ctx context.Context) error {
	switch {
	case l == nil:
		return nil
	case l.own != nil:
		return l.own.Run(ctx, l.bus.Run)
	default:
		return l.other.Run(ctx, l.bus.Run)
	}
}

func (l *localBus) metrics(t *stats.Text) {
	if l == nil {
		return
	}
	family := func(name, kind, help string, n float64) {
		t.Family(name, kind, help)
		t.Value(n, time.Time{})
	}
	s := l.bus.Stats()
	family("skerry_bus_published_total", stats.Counter, "Messages that the broker of the local bus took.", float64(s.Published))
	family("skerry_bus_dropped_total", stats.Counter, "Samples and gaps that the local bus was not told: newer ones came before there was room.", float64(s.Dropped))
	family("skerry_bus_unsent_total", stats.Counter, "Messages that the broker of the local bus could not take.", float64(s.Unsent))
	t.Family("skerry_bus_commands_total", stats.Counter, "Commands that came by the local bus, by what became of them.")
	t.Value(float64(s.Busy), time.Time{}, "result", "busy")
	t.Value(float64(s.Done), time.Time{}, "result", "done")
	t.Value(float64(s.Failed), time.Time{}, "result", "failed")
	if l.other != nil {
		family("skerry_bus_connected", stats.Gauge, "1 while there is a connection to the broker of the local bus.", flag(l.other.Connected()))
		return
	}
	o := l.own.Stats()
	family("skerry_bus_clients", stats.Gauge, "Connections to the agent's own broker.", float64(o.Clients))
	family("skerry_bus_denied_total", stats.Counter, "Connections and messages to the agent's own broker that nobody had the right to.", float64(o.Denied))
	family("skerry_bus_refused_total", stats.Counter, "Connections to the agent's own broker beyond the most that it takes.", float64(o.Refused))
	family("skerry_bus_slow_clients_total", stats.Counter, "Clients that were cut off because they did not read.", float64(o.Slow))
}
