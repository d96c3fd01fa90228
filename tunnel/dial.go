package tunnel

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// dialTimeout bounds Dial. The slowest link that is worth having (600 ms and
	// loss) takes 5 s at the 99th percentile.
	dialTimeout = 15 * time.Second
	// greetTimeout bounds the wait for Welcome on one carrier.
	greetTimeout = 10 * time.Second
	// earlyStreams is how many streams an edge may open before Welcome.
	earlyStreams = 16
	// firstWindow is how much may come in answer before anything was read.
	firstWindow = 256 << 10
	// edgeWindow and cloudWindow bound what one direction of a stream may hold:
	// 2 MiB fill 10 Mbit/s at 1.6 s of round trip. packetWindow bounds it where packets
	// carry the stream: what was lost comes a round trip or two later.
	edgeWindow, cloudWindow, packetWindow = 2 << 20, 1 << 20, 4 << 20
	// edgeMemory bounds what an edge's streams may hold, a gateway's whole share.
	edgeMemory = 32 << 20
)

// DialConfig is what Dial needs.
type DialConfig struct {
	// Address is the proxy's host:port.
	Address string
	// TLS comes from certs.ClientTLS. Its NextProtos are replaced by ALPN.
	TLS *tls.Config
	// Roots gives the CAs that sign the cloud at the time of each handshake, in place of
	// those in TLS: they change while a session lives. Nil means those in TLS.
	Roots func() *x509.CertPool
	// Hello is what the edge says of itself. Empty Versions mean all that this
	// build speaks. Incarnation and Seq name the session while it is begun; without an
	// Incarnation one is drawn.
	Hello wire.Hello
	// PacketConn opens a socket; nil means a UDP socket on all addresses that
	// outlives the loss of any. The session closes it.
	PacketConn func() (net.PacketConn, error)
	// DialTCP makes the connections of carriers over TCP, which the session uses where
	// UDP is blocked; nil means link.ProxyDialer with the process's environment.
	DialTCP link.Dialer
	// Detours gives the ways to addrs that the routing table would not take, the best
	// first. They are tried when its own seems dead, and while the session goes by one
	// it looks for its way back. Each look for a carrier asks anew. nil means all
	// devices with a default route, or none if PacketConn is set.
	Detours func(addrs []net.Addr) []Way
	// Packets offers the cloud to send bulk, and second copies of what people type, in
	// packets of their own beside the carrier's lanes, which links that lose packets need.
	Packets bool
	// MaxRate is how many bytes of bulk, desired state and reports the edge sends in a
	// second; zero means as many as the path takes. What people type is not bounded.
	MaxRate int64
	// MaxStreams is how many streams the cloud may have open at once, at most 1000; zero
	// means 256.
	MaxStreams int
	// MaxMemory is how many bytes the session's streams may hold; zero means 32 MiB.
	MaxMemory int64
	// Grace is how long the session lives on without a carrier; zero means 10 min.
	// The cloud's own may be shorter, and counts then.
	Grace time.Duration
	// Since is since when the cloud is out of reach, as far as the caller knows; zero
	// means that it is not. The longer, the rarer are Dial's attempts.
	Since time.Time
	// Log is for what happens to the session; nil means none.
	Log *slog.Logger
}

func (c *DialConfig) fill() error {
	switch {
	case c.Address == "":
		return errors.New("dial: Address is missing")
	case c.TLS == nil:
		return errors.New("dial: TLS is missing")
	}
	if c.PacketConn == nil {
		if c.Detours == nil {
			c.Detours = deviceDetours
		}
		c.PacketConn = func() (net.PacketConn, error) { return link.ListenUDP(0) }
	}
	if c.DialTCP == nil {
		c.DialTCP = link.ProxyDialer(os.Getenv)
	}
	if len(c.Hello.Versions) == 0 {
		c.Hello.Versions = []uint64{wire.Version}
	}
	if err := fillStreams(&c.MaxStreams); err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = edgeMemory
	}
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.TLS = withALPN(c.TLS)
	if c.TLS.ClientSessionCache == nil {
		c.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(maxAddresses)
	}
	if c.Hello.Incarnation == ([16]byte{}) {
		_, _ = rand.Read(c.Hello.Incarnation[:]) // never fails
	}
	if c.Packets && !slices.Contains(c.Hello.Features, featurePackets) {
		c.Hello.Features = append(slices.Clone(c.Hello.Features), featurePackets)
	}
	c.Hello.MaxStreams = uint64(c.MaxStreams)
	return nil
}

func withALPN(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.NextProtos = []string{ALPN}
	return c
}

// handshakeTLS is the configuration of the next handshake.
func (c *DialConfig) handshakeTLS() *tls.Config {
	if c.Roots == nil {
		return c.TLS
	}
	conf := c.TLS.Clone()
	conf.RootCAs = c.Roots()
	return conf
}

// Dial makes an edge's session: it is New, and then the session's Dial.
func Dial(ctx context.Context, cfg DialConfig) (*Session, error) {
	s, err := New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.Dial(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// New prepares an edge's session, which nobody has heard of before its Dial. Up to 16
// streams may be opened and written to at once: their first bytes go with Hello, and
// so are answered a round trip before Dial could have returned.
func New(ctx context.Context, cfg DialConfig) (*Session, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := &Session{
		edge: true, address: cfg.Address, grace: cfg.Grace, log: cfg.Log, release: func() {}, hello: cfg.Hello,
		maxStreams: cfg.MaxStreams, peerStreams: earlyStreams, maxWindow: edgeWindow, packetWindow: packetWindow, throttle: throttle{rate: cfg.MaxRate}, memory: &memory{max: cfg.MaxMemory},
	}
	s.init(ctx)
	if !cfg.Since.IsZero() {
		s.state.since = cfg.Since
	}
	d := &dialer{cfg: cfg, session: s, limits: link.EdgeLimits(lanes(cfg.MaxStreams))}
	s.dial, s.probe = d.carrier, d.probe
	return s, nil
}

// Dial finds the first carrier of a session from New; call it once. It returns when
// the cloud has said Welcome, and a *SessionError with the cloud's code when it has
// refused; ErrUntrusted is in it when TLS failed. While nothing answers, it tries all
// addresses of the host again and again, for 15 s or until ctx ends. When it fails the
// session has ended; else it finds its further carriers by itself.
func (s *Session) Dial(ctx context.Context) error {
	c, g, err := s.first(ctx)
	if err == nil {
		s.attach.Lock()
		defer s.attach.Unlock()
		s.welcomed(g)
		if s.use(c, nil) {
			return nil
		}
		c.drop(wire.CodeGoingAway, "the session has ended")
		return s.Err()
	}
	reason, ok := errors.AsType[*SessionError](err)
	if !ok {
		reason = &SessionError{Code: wire.CodeOffline, Text: err.Error()}
	}
	s.end(reason)
	<-s.done
	return err
}

// first makes the first carrier.
func (s *Session) first(ctx context.Context) (*carrier, *greeting, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	for {
		c, g, err := s.dial(ctx, s.hello, anyRank)
		if err == nil {
			return c, g, nil
		}
		// Else the attempt that the cloud took has not made it.
		if _, later := refusal(err); !later || ctx.Err() != nil {
			return nil, nil, fmt.Errorf("dial %s: %w", s.address, err)
		}
	}
}

// welcomed takes in what the cloud said of itself and of the session.
func (s *Session) welcomed(g *greeting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id, s.peer, s.cert, s.welcome = g.welcome.Session, g.peer, g.cert, *g.welcome
	s.peerStreams = int(min(g.welcome.MaxStreams, mostStreams))
	if grace := time.Duration(g.welcome.GraceMilli) * time.Millisecond; grace > 0 {
		s.grace = min(s.grace, grace)
	}
}

// greeting is what the cloud said of itself.
type greeting struct {
	peer    certs.Identity
	cert    *x509.Certificate
	welcome *wire.Welcome
	resume  *wire.Resume // nil when the session is new
}

// say opens the control lane and says Hello on it.
func (d *dialer) say(ctx context.Context, conn link.Conn, s *salute) {
	control, err := conn.OpenLane(ctx, urgency(wire.KindControl))
	if err != nil {
		s.err = err
		return
	}
	b := wire.Append(nil, &s.hello)
	if s.hello.Resumes() {
		b = wire.Append(b, d.session.positions())
	}
	_, s.err = control.Write(d.session.preview(b))
	s.control = control
}

// greet says Hello and waits for Welcome.
func (d *dialer) greet(ctx context.Context, conn link.Conn, said *salute) (*carrier, *greeting, error) {
	hello := &said.hello
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	// In TLS 1.3 the client is done before the server has looked at its
	// certificate, so a refused certificate shows here, too.
	stop := context.AfterFunc(ctx, func() { conn.Close(wire.CodeNextCarrier, "no welcome in time") })
	defer stop()
	fail := func(what string, err error) error {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
		return fmt.Errorf("%s: %w", what, sessionError(err))
	}
	g := &greeting{}
	var err error
	if g.peer, err = certs.PeerIdentity(conn.TLS()); err != nil {
		return nil, nil, err
	}
	g.cert = conn.TLS().PeerCertificates[0]
	if said.control == nil {
		if d.say(ctx, conn, said); said.err != nil {
			return nil, nil, fail("say hello", said.err)
		}
	}
	lane, err := conn.AcceptLane(ctx)
	if err != nil {
		return nil, nil, fail("wait for welcome", err)
	}
	inbox := newLaneReader(lane)
	if g.welcome, err = expect[*wire.Welcome](inbox); err != nil {
		return nil, nil, fail("wait for welcome", err)
	}
	if !slices.Contains(hello.Versions, g.welcome.Version) {
		return nil, nil, &SessionError{Code: wire.CodeVersion, Text: fmt.Sprintf("the cloud chose version %d, which was not offered", g.welcome.Version)}
	}
	if hello.Resumes() {
		if g.welcome.Session != hello.Session {
			return nil, nil, &SessionError{Code: wire.CodeProtocol, Text: "the cloud answered with another session"}
		}
		if g.resume, err = expect[*wire.Resume](inbox); err != nil {
			return nil, nil, fail("wait for resume", err)
		}
	}
	return newCarrier(d.session.ctx, conn, said.control, inbox, hello.Carrier), g, nil
}

// expect reads the frame that must come next.
func expect[F wire.Frame](r *wire.Reader) (F, error) { //nolint:ireturn // the caller's choice
	var none F
	f, err := r.Next()
	switch {
	case errors.Is(err, wire.ErrMalformed), errors.Is(err, wire.ErrTooLarge):
		return none, &SessionError{Code: wire.CodeProtocol, Text: err.Error()}
	case err != nil:
		return none, err
	}
	want, ok := f.(F)
	if !ok {
		return none, &SessionError{Code: wire.CodeProtocol, Text: fmt.Sprintf("%T instead of %T", f, none)}
	}
	return want, nil
}
