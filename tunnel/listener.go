package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// helloTimeout bounds the wait for Hello after the handshake.
	helloTimeout = 10 * time.Second
	// readySessions bounds the sessions that nobody has accepted yet.
	readySessions = 64
	// defaultPending bounds handshakes and Hellos in flight, of QUIC and of TCP each.
	defaultPending = 256
	// totalMemory bounds what the streams of all edges may hold.
	totalMemory = 4 << 30
)

// ListenConfig is what Listen needs.
type ListenConfig struct {
	// PacketConn is the socket; nil means a UDP socket on Port of all addresses. A
	// *net.UDPConn is wrapped so that a lost route does not end sessions. The
	// listener closes it.
	PacketConn net.PacketConn
	// Port is used without a PacketConn; zero means any.
	Port int
	// Listener takes in carriers over TCP, for edges whose networks block UDP; it should
	// have the same port number. nil means none. The listener closes it.
	Listener net.Listener
	// TLS comes from certs.ServerTLS. Its NextProtos are replaced by ALPN.
	TLS *tls.Config
	// StatelessResetKey and TokenKey should be kept over restarts, see
	// link.TransportConfig; all zero means none and a random one.
	StatelessResetKey, TokenKey [32]byte
	// Replica is this proxy's name in Welcome.
	Replica string
	// Refuse turns an edge away after the handshake with a code that it
	// understands, where TLS could only say "bad certificate". CodeOK lets it in;
	// nil lets all in. It must not block.
	Refuse func(certs.Identity, *x509.Certificate) (wire.Code, string)
	// MaxPending bounds handshakes and Hellos in flight; zero means 256. One address
	// may have half of them.
	MaxPending int
	// MaxStreams is how many streams an edge may have open at once, at most 1000; zero means
	// 256.
	MaxStreams int
	// MaxRate is how many bytes of bulk, desired state and reports the cloud sends to one
	// edge in a second; zero means as many as the path takes. What people type is not
	// bounded.
	MaxRate int64
	// MaxWindow is how many bytes one direction of a stream may hold; zero means 1 MiB,
	// and less than 32 KiB is not possible. Where packets carry the stream it may hold four
	// times as many, up to 4 MiB.
	MaxWindow    int64
	packetWindow int64 // MaxWindow where packets carry a stream
	// MaxMemory is how many bytes the streams of one edge may hold, MaxTotalMemory
	// those of all edges; zero means 32 MiB and 4 GiB.
	MaxMemory, MaxTotalMemory int64
	// Grace is how long a session lives on without a carrier; zero means 10 min.
	Grace time.Duration
	// Log is for what happens to sessions; nil means none.
	Log *slog.Logger
}

func (c *ListenConfig) fill() error {
	if c.TLS == nil {
		return errors.New("listen: TLS is missing")
	}
	c.TLS = withALPN(c.TLS)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if err := fillStreams(&c.MaxStreams); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if c.MaxPending == 0 {
		c.MaxPending = defaultPending
	}
	if c.MaxWindow == 0 {
		c.MaxWindow = cloudWindow
	}
	c.MaxWindow = max(c.MaxWindow, baseWindow)
	c.packetWindow = max(c.MaxWindow, min(4*c.MaxWindow, packetWindow))
	if c.MaxMemory == 0 {
		c.MaxMemory = edgeMemory
	}
	if c.MaxTotalMemory == 0 {
		c.MaxTotalMemory = totalMemory
	}
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	return nil
}

// Listener takes in the sessions of edges. Each handshake and each Hello goes
// its own way, so a slow peer delays nobody.
type Listener struct {
	cfg       ListenConfig
	transport *link.Transport
	ln        *link.Listener
	tcp       *link.TLSListener // nil when there is none
	ready     chan *Session
	cancel    context.CancelFunc
	closing   chan struct{}
	ended     chan struct{} // closed when Close has done its work
	wg        sync.WaitGroup
	memory    *memory // of all sessions
	frames    *frames
	refused   refused

	mu       sync.Mutex // guards the following fields
	closed   bool
	draining bool // takes no new sessions
	sessions map[[16]byte]*Session
	begun    map[origin]*Session
}

// Listen opens the socket and begins to take sessions in.
func Listen(ctx context.Context, cfg ListenConfig) (*Listener, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	fail := func(errs ...error) (*Listener, error) {
		if cfg.Listener != nil {
			errs = append(errs, cfg.Listener.Close())
		}
		return nil, errors.Join(errs...)
	}
	if cfg.PacketConn == nil {
		pc, err := link.ListenUDP(cfg.Port)
		if err != nil {
			return fail(fmt.Errorf("listen: %w", err))
		}
		cfg.PacketConn = pc
	}
	if udp, ok := cfg.PacketConn.(*net.UDPConn); ok {
		cfg.PacketConn = &link.Socket{UDPConn: udp}
	}
	t, err := link.NewTransport(link.TransportConfig{
		PacketConn:        cfg.PacketConn,
		StatelessResetKey: cfg.StatelessResetKey,
		TokenKey:          cfg.TokenKey,
		MaxPending:        cfg.MaxPending,
	})
	if err != nil {
		return fail(err, cfg.PacketConn.Close())
	}
	ln, err := t.Listen(cfg.TLS, link.CloudLimits(lanes(cfg.MaxStreams)))
	if err != nil {
		return fail(err, t.Close())
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &Listener{
		cfg: cfg, transport: t, ln: ln, cancel: cancel,
		ready:    make(chan *Session, readySessions),
		closing:  make(chan struct{}),
		ended:    make(chan struct{}),
		sessions: make(map[[16]byte]*Session),
		begun:    make(map[origin]*Session),
		memory:   &memory{max: cfg.MaxTotalMemory},
		frames:   &frames{},
	}
	if cfg.Listener != nil { // before anybody is let in, who may want to know
		l.tcp = link.ListenTLS(cfg.Listener, cfg.TLS, cfg.MaxPending)
		l.wg.Go(func() { l.run(ctx, l.tcp.Accept) })
	}
	l.wg.Go(func() { l.run(ctx, l.ln.Accept) })
	return l, nil
}

// Accept waits for the next session. Whoever accepts it closes it.
func (l *Listener) Accept(ctx context.Context) (*Session, error) {
	select {
	case s := <-l.ready:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closing:
		return nil, net.ErrClosed
	}
}

// Addr is the socket's address.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Close ends the listener and all its sessions, which are told to dial again.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		<-l.ended
		return nil
	}
	l.closed = true
	defer close(l.ended)
	sessions := make([]*Session, 0, len(l.sessions))
	for _, s := range l.sessions {
		sessions = append(sessions, s)
	}
	l.mu.Unlock()
	close(l.closing)
	l.cancel()
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() { _ = s.Close(wire.CodeGoingAway, "the proxy shuts down") }) // never fails
	}
	wg.Wait()
	err := errors.Join(l.ln.Close(), l.transport.Close())
	if l.tcp != nil {
		err = errors.Join(err, l.tcp.Close())
	}
	l.wg.Wait()
	return err
}

// run accepts in a tight loop. The bound on pending connections is the bound on
// its goroutines.
func (l *Listener) run(ctx context.Context, accept func(context.Context) (link.Conn, error)) {
	for {
		conn, err := accept(ctx)
		if err != nil {
			return // closed
		}
		l.wg.Go(func() { l.admit(ctx, conn) })
	}
}

func (l *Listener) add(s *Session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ok := !l.closed && !l.draining
	if ok {
		l.sessions[s.id] = s
		l.begun[s.origin] = s
	}
	return ok
}

func (l *Listener) remove(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, s.id)
	if l.begun[s.origin] == s {
		delete(l.begun, s.origin)
	}
}
