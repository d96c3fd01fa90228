package tunneltest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Pass lets virtual time go by.
func Pass(d time.Duration) { <-time.After(d) }

// Options say what the network is like at first.
type Options struct {
	// RTT is the round-trip time of every edge; zero means none.
	RTT time.Duration
	// Loss is the share of packets lost, each way.
	Loss float64
	// Burst is how many packets in a row are lost on average (Gilbert-Elliott);
	// zero means that losses are independent.
	Burst float64
	// Seed makes losses repeat; zero is a seed, too.
	Seed uint64
	// TCP says that the network has TCP beside UDP.
	TCP bool
	// Listen changes the listener's configuration; nil means nothing.
	Listen func(*tunnel.ListenConfig)
	// Dial changes each edge's; nil means nothing.
	Dial func(*tunnel.DialConfig)
}

// Net is one cloud and any number of edges.
type Net struct {
	tb     testing.TB
	rtt    time.Duration
	ca     *authority
	router router
	cloud  *net.UDPAddr
	cfg    tunnel.ListenConfig
	cables sync.WaitGroup // that still have packets on their way
	over   chan struct{}  // closed at the end of the test
	tcp    *tcp           // the cloud's; nil without TCP
	dial   func(*tunnel.DialConfig)

	mu       sync.Mutex // guards the following fields
	listener *tunnel.Listener
	edges    int
	replicas int // beside the first
}

// New starts the cloud's listener. Everything is closed at the end of the test.
func New(tb testing.TB, opt Options) *Net {
	tb.Helper()
	n := &Net{
		tb: tb, rtt: opt.RTT, ca: newAuthority(tb), dial: opt.Dial,
		cloud: &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1).To4(), Port: 7443},
	}
	n.over = make(chan struct{})
	tb.Cleanup(func() {
		close(n.over)
		n.cables.Wait()
	})
	n.router.up = make(chan struct{})
	close(n.router.up)
	n.router.cloud = n.cloud
	n.router.bad, n.router.shifts = make(map[string]bool), make(map[string]*shift)
	n.router.random = rand.New(rand.NewPCG(opt.Seed, 1))
	n.router.loss, n.router.burst = opt.Loss, opt.Burst
	n.cfg = tunnel.ListenConfig{
		PacketConn: n.endpoint(n.cloud), TLS: n.ca.serverTLS(tb), Replica: "cloud-0",
		StatelessResetKey: [32]byte{1}, TokenKey: [32]byte{2},
	}
	if opt.TCP {
		n.tcp = newTCP(n)
		n.cfg.Listener = n.tcp
	}
	if opt.Listen != nil {
		opt.Listen(&n.cfg)
	}
	var err error
	if n.listener, err = tunnel.Listen(tb.Context(), n.cfg); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := n.Listener().Close(); err != nil {
			tb.Errorf("close the cloud's listener: %v", err)
		}
	})
	return n
}

// Listener is the cloud's.
func (n *Net) Listener() *tunnel.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listener
}

// Restart kills the cloud's listener without a word to the edges, and starts
// another with the same configuration in its place.
func (n *Net) Restart() {
	n.tb.Helper()
	n.Outage(true)
	if err := n.Listener().Close(); err != nil {
		n.tb.Errorf("close the cloud's listener: %v", err)
	}
	n.Outage(false)
	n.cfg.PacketConn = n.endpoint(n.cloud)
	if n.tcp != nil {
		n.tcp = newTCP(n)
		n.cfg.Listener = n.tcp
	}
	l, err := tunnel.Listen(context.WithoutCancel(n.tb.Context()), n.cfg)
	if err != nil {
		n.tb.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listener = l
}

// Replica starts another cloud beside those there are, of the same cluster, and gives
// its address. It has no TCP. It is closed at the end of the test.
func (n *Net) Replica() (l *tunnel.Listener, address string) {
	n.tb.Helper()
	n.mu.Lock()
	n.replicas++
	number := n.replicas
	n.mu.Unlock()
	addr := &net.UDPAddr{IP: net.IPv4(10, 0, byte(number>>8), byte(number+2)).To4(), Port: 7443}
	cfg := n.cfg
	cfg.PacketConn, cfg.Listener, cfg.Replica = n.endpoint(addr), nil, fmt.Sprint("cloud-", number)
	l, err := tunnel.Listen(n.tb.Context(), cfg)
	if err != nil {
		n.tb.Fatal(err)
	}
	n.tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			n.tb.Errorf("close the second cloud's listener: %v", err)
		}
	})
	return l, addr.String()
}

// Loss sets the share of packets lost from now on, each way; 1 is an outage.
func (n *Net) Loss(share float64) {
	n.router.mu.Lock()
	defer n.router.mu.Unlock()
	n.router.loss = share
}

// Outage takes the network away or gives it back.
func (n *Net) Outage(on bool) {
	n.router.mu.Lock()
	defer n.router.mu.Unlock()
	if n.router.outage == on {
		return
	}
	n.router.outage = on
	if on {
		n.router.up = make(chan struct{})
	} else {
		close(n.router.up)
	}
}

// BlockUDP drops all UDP, as some networks do, or lets it pass again.
func (n *Net) BlockUDP(on bool) {
	n.router.mu.Lock()
	defer n.router.mu.Unlock()
	n.router.noUDP = on
}

// LoseOne loses one packet, the nth from now on, whichever way it goes.
func (n *Net) LoseOne(nth int) {
	n.router.mu.Lock()
	defer n.router.mu.Unlock()
	n.router.until = nth
}

// Config is what an edge dials with; the test may change it before tunnel.Dial.
// Each session gets its own socket.
func (n *Net) Config(node string, seq uint64) tunnel.DialConfig {
	n.tb.Helper()
	cfg := tunnel.DialConfig{
		Address:    n.cloud.String(),
		TLS:        n.ca.clientTLS(n.tb, node),
		Hello:      wire.Hello{Seq: seq, AgentVersion: "test", OS: "linux", Arch: "amd64", Hostname: node},
		PacketConn: n.PacketConn,
		DialTCP:    n.dialTCP,
	}
	if n.dial != nil {
		n.dial(&cfg)
	}
	return cfg
}

func (n *Net) dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.tcp
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("this network has no TCP")
	}
	return l.dial(ctx, network, addr)
}

// PacketConn opens an edge's socket, as the routing table says: on Uplink 0.
func (n *Net) PacketConn() (net.PacketConn, error) { return n.Uplink(0).packetConn() }

// Dial makes a session of an edge. The session is closed at the end of the test.
func (n *Net) Dial(ctx context.Context, node string, seq uint64) (*tunnel.Session, error) {
	n.tb.Helper()
	s, err := tunnel.Dial(ctx, n.Config(node, seq))
	if err != nil {
		return nil, err
	}
	n.tb.Cleanup(func() { _ = s.Close(wire.CodeOK, "end of test") }) // never fails
	return s, nil
}

// Pair dials once and accepts once.
func (n *Net) Pair(node string) (cloud, edge *tunnel.Session) {
	n.tb.Helper()
	edge, err := n.Dial(n.tb.Context(), node, 1)
	if err != nil {
		n.tb.Fatal(err)
	}
	if cloud, err = n.Listener().Accept(n.tb.Context()); err != nil {
		n.tb.Fatal(err)
	}
	return cloud, edge
}

func (n *Net) endpoint(addr *net.UDPAddr) *endpoint {
	l := &simnet.SimulatedLink{Latency: n.rtt / 2, UploadPacket: &n.router}
	c := simnet.NewBlockingSimConn(addr, l)
	n.router.AddNode(addr, l)
	l.Start()
	return &endpoint{SimConn: c, link: l, router: &n.router, cables: &n.cables}
}

// endpoint is a socket whose end is also the end of its cable.
type endpoint struct {
	*simnet.SimConn
	link   *simnet.SimulatedLink
	router *router
	cables *sync.WaitGroup
	once   sync.Once
}

// Close implements net.PacketConn.
func (e *endpoint) Close() (err error) {
	e.once.Do(func() {
		e.router.RemoveNode(e.LocalAddr())
		err = e.SimConn.Close()
		e.cables.Go(func() {
			Pass(e.link.Latency) // what is on its way still arrives
			_ = e.link.Close()   // never fails
		})
	})
	return err
}

// router loses packets and never fails.
type router struct {
	simnet.PerfectRouter

	mu     sync.Mutex // guards the following fields
	random *rand.Rand
	loss   float64
	burst  float64
	bad    map[string]bool // by destination: in a burst
	outage bool
	noUDP  bool
	until  int               // packets until one is lost, that one included; zero means never
	shifts map[string]*shift // by the edges' addresses
	cloud  *net.UDPAddr      // where edges dial to
	behind *net.UDPAddr      // who is there; nil means that nothing is translated
	up     chan struct{}     // closed while there is no outage
}

// waitUp waits for the end of an outage; false means that stop came first.
func (r *router) waitUp(stop <-chan struct{}) bool {
	r.mu.Lock()
	up := r.up
	r.mu.Unlock()
	select {
	case <-up:
		return true
	case <-stop:
		return false
	}
}

// SendPacket implements simnet.Router.
func (r *router) SendPacket(p simnet.Packet) error {
	if r.pass(&p) {
		_ = r.PerfectRouter.SendPacket(p) // fails for an address that is gone, where a network says nothing
	}
	return nil
}

// pass translates the packet's addresses, or loses it.
func (r *router) pass(p *simnet.Packet) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.balance(p) && r.translate(p) && !r.lostLocked(p.To.String())
}

func (r *router) lostLocked(to string) bool {
	if r.until > 0 && !r.outage {
		if r.until--; r.until == 0 {
			return true
		}
	}
	if r.outage || r.noUDP || r.loss == 0 {
		return r.outage || r.noUDP
	}
	if r.burst == 0 {
		return r.random.Float64() < r.loss
	}
	change := 1 / r.burst
	if !r.bad[to] {
		change = r.loss / (r.burst * (1 - r.loss))
	}
	if r.random.Float64() < change {
		r.bad[to] = !r.bad[to]
	}
	return r.bad[to]
}
