package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// dialTimeout bounds Dial. The slowest link that is worth having (600 ms and
	// loss) takes 5 s at the 99th percentile.
	dialTimeout = 15 * time.Second
	// nextAddress is when the next of several addresses is tried beside the first.
	nextAddress = 250 * time.Millisecond
	// nextAttempt is when a handshake that got no answer is begun anew beside the
	// old one. quic-go's own repeats get further and further apart; after an outage
	// nothing moves before the next one, so their distance is what users wait.
	nextAttempt = 2 * time.Second
	// maxAddresses bounds what a DNS answer can make us try.
	maxAddresses = 8
	// maxControlFrame bounds Hello and Welcome.
	maxControlFrame = 64 << 10
)

// DialConfig is what Dial needs.
type DialConfig struct {
	// Address is the proxy's host:port.
	Address string
	// TLS comes from certs.ClientTLS. Its NextProtos are replaced by ALPN.
	TLS *tls.Config
	// Hello is what the edge says of itself. Empty Versions mean all that this
	// build speaks.
	Hello wire.Hello
	// PacketConn opens the socket; nil means a UDP socket on all addresses that
	// outlives the loss of any. The session closes it.
	PacketConn func() (net.PacketConn, error)
	// MaxStreams is how many streams the cloud may have open at once; zero means 256.
	MaxStreams int
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
		c.PacketConn = func() (net.PacketConn, error) { return link.ListenUDP(0) }
	}
	if len(c.Hello.Versions) == 0 {
		c.Hello.Versions = []uint64{wire.Version}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.TLS = withALPN(c.TLS)
	return nil
}

func withALPN(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.NextProtos = []string{ALPN}
	return c
}

// Dial makes an edge's session. It returns when the cloud has said Welcome, and
// a *SessionError with the cloud's code when it has refused; ErrUntrusted is in
// it when TLS failed. While nothing answers, it tries all addresses of the host
// again and again, for 15 s or until ctx ends.
func Dial(ctx context.Context, cfg DialConfig) (*Session, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addrs, err := resolve(ctx, cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", cfg.Address, err)
	}
	pc, err := cfg.PacketConn()
	if err != nil {
		return nil, fmt.Errorf("dial %s: open socket: %w", cfg.Address, err)
	}
	transport, err := link.NewTransport(link.TransportConfig{PacketConn: pc})
	if err != nil {
		return nil, errors.Join(err, pc.Close())
	}
	s, err := establish(ctx, cfg, transport, addrs)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dial %s: %w", cfg.Address, sessionError(err)), transport.Close())
	}
	return s, nil
}

func resolve(ctx context.Context, address string) ([]net.Addr, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	addrs := make([]net.Addr, 0, maxAddresses)
	for _, ip := range ips[:min(len(ips), maxAddresses)] {
		// Unmapped, because a socket without IPv6 takes IPv4 addresses only as such.
		addrs = append(addrs, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), uint16(port))))
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return addrs, nil
}

// establish makes a connection and says Hello on it.
func establish(ctx context.Context, cfg DialConfig, t *link.Transport, addrs []net.Addr) (*Session, error) {
	limits := link.EdgeLimits()
	limits.MaxStreams = cfg.MaxStreams
	conn, err := race(ctx, addrs, func(ctx context.Context, addr net.Addr) (*link.Conn, error) {
		return t.Dial(ctx, addr, cfg.TLS, limits)
	})
	if err != nil {
		return nil, err
	}
	s := &Session{
		conn: conn, edge: true, hello: cfg.Hello, log: cfg.Log,
		release: func() {
			if err := t.Close(); err != nil {
				cfg.Log.Debug("close the session's socket", "err", err)
			}
		},
	}
	if err := s.greet(ctx); err != nil {
		code := wire.CodeCanceled
		if refused, ok := errors.AsType[*SessionError](err); ok {
			code = refused.Code
		}
		conn.Close(code, "no session")
		return nil, err
	}
	s.start(ctx)
	return s, nil
}

// greet says Hello and waits for Welcome.
func (s *Session) greet(ctx context.Context) error {
	// In TLS 1.3 the client is done before the server has looked at its
	// certificate, so a refused certificate shows here, too.
	stop := context.AfterFunc(ctx, func() { s.conn.Close(wire.CodeCanceled, "no welcome in time") })
	defer stop()
	fail := func(what string, err error) error {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
		return fmt.Errorf("%s: %w", what, sessionError(err))
	}
	var err error
	if s.peer, err = certs.PeerIdentity(s.conn.TLS()); err != nil {
		return err
	}
	s.cert = s.conn.TLS().PeerCertificates[0]
	if s.control, err = s.conn.OpenStream(); err != nil {
		return fail("open control stream", err)
	}
	s.control.SetUrgency(urgency(wire.KindControl))
	if _, err := s.control.Write(wire.Append(wire.AppendKind(nil, wire.KindControl), &s.hello)); err != nil {
		return fail("say hello", err)
	}
	f, err := wire.NewReader(bufio.NewReaderSize(s.control, 256), maxControlFrame).Next()
	if err != nil {
		return fail("wait for welcome", err)
	}
	w, ok := f.(*wire.Welcome)
	switch {
	case !ok:
		return &SessionError{Code: wire.CodeProtocol, Text: fmt.Sprintf("%T instead of welcome", f)}
	case !slices.Contains(s.hello.Versions, w.Version):
		return &SessionError{Code: wire.CodeVersion, Text: fmt.Sprintf("the cloud chose version %d, which was not offered", w.Version)}
	}
	s.welcome = *w
	return nil
}

type attempt struct {
	conn *link.Conn
	err  error
}

// race dials the addresses one after the other and again, each attempt beside
// those that still wait, and gives the first connection. An answer that says no
// ends it: to ask again is the caller's decision.
func race(ctx context.Context, addrs []net.Addr, dial func(context.Context, net.Addr) (*link.Conn, error)) (*link.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	results := make(chan attempt)
	defer wg.Wait()
	defer cancel()

	start := time.NewTimer(0)
	defer start.Stop()
	var last error
	for i := 0; ; {
		select {
		case <-start.C:
			addr := addrs[i%len(addrs)]
			wg.Go(func() {
				conn, err := dial(ctx, addr)
				select {
				case results <- attempt{conn, err}:
				case <-ctx.Done():
					if conn != nil {
						conn.Close(wire.CodeCanceled, "another attempt was faster")
					}
				}
			})
			i++
			wait := nextAddress
			if i >= len(addrs) {
				wait = nextAttempt*3/4 + rand.N(nextAttempt/2)
			}
			start.Reset(wait)
		case r := <-results:
			if r.err == nil {
				return r.conn, nil
			}
			last = r.err
			var no *link.ConnError
			if errors.As(r.err, &no) && (no.Remote || no.Untrusted) {
				return nil, r.err
			}
		case <-ctx.Done():
			if last != nil {
				return nil, fmt.Errorf("%w; last attempt: %s", ctx.Err(), last.Error())
			}
			return nil, fmt.Errorf("no answer: %w", ctx.Err())
		}
	}
}
