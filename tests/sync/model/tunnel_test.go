package model

import (
	"context"
	"crypto/x509"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/registry"
	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// nowhere is an address of the simulated network where nobody is.
const nowhere = "10.9.9.9:7443"

// tunnels is the way through the tunnel: sessions of the edge's uplink with the
// registries of replicas, over a network that loses packets. All replicas are behind
// one address, as behind a load balancer.
type tunnels struct {
	t    *testing.T
	net  *tunneltest.Net
	base float64 // loss when all is well
	told bool    // a replica hears when another has taken the edge; else it finds out by what it is refused

	mu      sync.Mutex // guards the following fields
	rng     *rand.Rand
	hosts   map[*replica]*host
	owner   *replica
	session *tunnel.Session // the edge's last that came to be
	down    bool
	calm    bool // there will be no faults
	faults  int  // so far; those that end by themselves know by it whether they are still there
}

// host is where a replica runs.
type host struct {
	listener *tunnel.Listener
	address  string
	registry *registry.Registry
}

func newTunnels(t *testing.T, rng *rand.Rand) *tunnels {
	t.Helper()
	l := &tunnels{t: t, rng: rng, base: float64(rng.IntN(3)) / 100, told: rng.IntN(2) == 0, hosts: make(map[*replica]*host)}
	l.net = tunneltest.New(t, tunneltest.Options{
		RTT: time.Duration(rng.IntN(300)) * time.Millisecond, Loss: l.base, Burst: float64(rng.IntN(3)), Seed: rng.Uint64(),
	})
	return l
}

// plug implements way.
func (l *tunnels) plug() (uplink.Dialer, func(context.Context) error) {
	// Certificate and tickets are the process's.
	conf := l.net.Config(node, 0)
	u, err := uplink.New(uplink.Config{
		Session: func(ctx context.Context, b uplink.Begin) (uplink.Session, error) {
			cfg := conf
			cfg.Hello.Incarnation, cfg.Hello.Seq, cfg.Since = b.Incarnation, b.Seq, b.Since
			s, err := tunnel.New(ctx, cfg)
			if err != nil {
				return nil, err
			}
			return &noted{s, l}, nil
		},
		Log: logger("uplink"),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return u, u.Run
}

// noted is a session that the model can take away from the edge.
type noted struct {
	*tunnel.Session
	line *tunnels
}

// Dial implements uplink.Session.
func (s *noted) Dial(ctx context.Context) error {
	err := s.Session.Dial(ctx)
	if err == nil {
		s.line.mu.Lock()
		s.line.session = s.Session
		s.line.mu.Unlock()
	}
	return err
}

// join implements way.
func (l *tunnels) join(r *replica) (report.Sessions, func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &host{listener: l.net.Listener()}
	h.address = h.listener.Addr().String()
	if len(l.hosts) > 0 {
		h.listener, h.address = l.net.Replica()
	}
	var err error
	h.registry, err = registry.New(registry.Config{
		Listener: h.listener, Log: logger("registry of " + h.address),
		Refuse: func(certs.Identity, *x509.Certificate) (wire.Code, string) {
			if l.lost(r) { // while the session was on its way
				return wire.CodeReplaced, "another replica has the edge"
			}
			return wire.CodeOK, ""
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, kind := range []wire.Kind{wire.KindDesired, wire.KindReport} {
		h.registry.Handle(kind, func(ctx context.Context, _ string, conn net.Conn) error { return r.work(ctx, kind, conn) })
	}
	l.hosts[r] = h
	return attached{h.registry}, h.registry.Run
}

// lost says whether r knows that it has not got the edge.
func (l *tunnels) lost(r *replica) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owner != r && l.told
}

// attached shows the sessions of a registry, as package cloudproxy does.
type attached struct{ *registry.Registry }

// Sessions implements report.Sessions.
func (s attached) Sessions() []report.Session {
	var list []report.Session
	for _, i := range s.Registry.Sessions() {
		list = append(list, report.Session{Node: i.Node, Hello: i.Hello, Since: i.Stats.Since})
	}
	return list
}

// leave implements way.
func (l *tunnels) leave(r *replica) {
	l.mu.Lock()
	h := l.hosts[r]
	l.hosts[r] = nil // its number stays
	l.mu.Unlock()
	if err := h.listener.Close(); err != nil {
		l.t.Errorf("close a replica's listener: %v", err)
	}
}

// set implements way. Who had the edge knows; the edge hears of it, or has to find
// out.
func (l *tunnels) set(r *replica) {
	l.mu.Lock()
	was, h, s := l.hosts[l.owner], l.hosts[r], l.session
	if l.owner == r {
		was = nil
	}
	if !l.calm && l.rng.IntN(2) == 0 {
		s = nil
	}
	l.owner = r
	l.mu.Unlock()
	address := nowhere
	if h != nil {
		address = h.address
	}
	l.net.Route(address)
	if was != nil && l.told {
		was.registry.Close(node, wire.CodeReplaced, "another replica has the edge")
	}
	if s != nil {
		_ = s.Close(wire.CodeInternal, "another replica has this edge") // never fails
	}
}

// settle implements way.
func (l *tunnels) settle() {
	l.mend()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calm = true
}

// cut implements way. Sessions may live on.
func (l *tunnels) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.downLocked(true)
}

func (l *tunnels) downLocked(down bool) {
	l.faults++
	l.down = down
	l.net.Outage(down)
}

// mend implements way.
func (l *tunnels) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.downLocked(false)
	l.net.Loss(l.base)
	l.net.Uplink(0).Deaf(false)
}

// cutAfter implements way: at 1 Mbit/s.
func (l *tunnels) cutAfter(n int) { l.later(time.Duration(n)*8*time.Microsecond, true) }

func (l *tunnels) later(d time.Duration, down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults++
	mine := l.faults
	time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.faults == mine {
			l.downLocked(down)
		}
	})
}

// reset implements way.
func (l *tunnels) reset() {
	l.mu.Lock()
	n, share, both := l.rng.IntN(6), l.rng.Float64(), l.rng.IntN(2) == 0
	s := l.session
	l.mu.Unlock()
	switch n {
	case 0:
		l.net.Loss(share / 2)
	case 1: // another network address, as behind a NAT that forgot
		l.net.Uplink(0).Move(both)
	case 2: // and the machine knows
		l.net.Uplink(0).Move(both)
		if s != nil {
			s.Check()
		}
	case 3:
		l.net.Uplink(0).Deaf(true)
	case 4:
		l.net.LoseOne(1 + int(share*40))
	case 5:
		l.cut()
		l.later(time.Duration(share*5000)*time.Millisecond, false)
	}
}

// strand implements way: the edge loses its session, and begins another soon.
func (l *tunnels) strand() {
	l.mu.Lock()
	s, down := l.session, l.down
	l.mu.Unlock()
	if s == nil {
		return
	}
	l.net.Outage(true)
	_ = s.Close(wire.CodeInternal, "stranded") // never fails
	l.net.Outage(down)
}
