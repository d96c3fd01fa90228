package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
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
)

// ListenConfig is what Listen needs.
type ListenConfig struct {
	// PacketConn is the socket; nil means a UDP socket on Port of all addresses. A
	// *net.UDPConn is wrapped so that a lost route does not end sessions. The
	// listener closes it.
	PacketConn net.PacketConn
	// Port is used without a PacketConn; zero means any.
	Port int
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
	// MaxPending bounds handshakes and Hellos in flight; zero means 256.
	MaxPending int
	// MaxStreams is how many streams an edge may have open at once; zero means 256.
	MaxStreams int
	// Log is for what happens to sessions; nil means none.
	Log *slog.Logger
}

// Listener takes in the sessions of edges. Each handshake and each Hello goes
// its own way, so a slow peer delays nobody.
type Listener struct {
	cfg       ListenConfig
	transport *link.Transport
	ln        *link.Listener
	ready     chan *Session
	cancel    context.CancelFunc
	closing   chan struct{}
	wg        sync.WaitGroup

	mu       sync.Mutex // guards the following fields
	closed   bool
	sessions map[*Session]struct{}
}

// Listen opens the socket and begins to take sessions in.
func Listen(ctx context.Context, cfg ListenConfig) (*Listener, error) {
	if cfg.TLS == nil {
		return nil, errors.New("listen: TLS is missing")
	}
	cfg.TLS = withALPN(cfg.TLS)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.PacketConn == nil {
		pc, err := link.ListenUDP(cfg.Port)
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
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
		return nil, errors.Join(err, cfg.PacketConn.Close())
	}
	limits := link.CloudLimits()
	limits.MaxStreams = cfg.MaxStreams
	ln, err := t.Listen(cfg.TLS, limits)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &Listener{
		cfg: cfg, transport: t, ln: ln, cancel: cancel,
		ready:    make(chan *Session, readySessions),
		closing:  make(chan struct{}),
		sessions: make(map[*Session]struct{}),
	}
	l.wg.Go(func() { l.run(ctx) })
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
		return nil
	}
	l.closed = true
	sessions := make([]*Session, 0, len(l.sessions))
	for s := range l.sessions {
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
	l.wg.Wait()
	return err
}

// run accepts in a tight loop. The bound on pending connections is the bound on
// its goroutines.
func (l *Listener) run(ctx context.Context) {
	for {
		conn, err := l.ln.Accept(ctx)
		if err != nil {
			return // closed
		}
		l.wg.Go(func() { l.admit(ctx, conn) })
	}
}

// admit gets one connection from its handshake to Accept.
func (l *Listener) admit(ctx context.Context, conn *link.Conn) {
	defer conn.Settle()
	hctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	// Whatever waits below ends with the connection.
	stop := context.AfterFunc(hctx, func() { conn.Close(wire.CodeProtocol, "no hello in time") })
	s, err := l.greet(hctx, conn)
	if !stop() || err != nil {
		code, text := wire.CodeProtocol, "no hello in time"
		var refused *SessionError
		if errors.As(err, &refused) && !refused.Remote {
			code, text = refused.Code, refused.Text
		}
		conn.Close(code, text)
		l.cfg.Log.Info("session refused", "remote", conn.RemoteAddr().String(), "code", code, "err", err)
		return
	}
	if !l.add(s) {
		conn.Close(wire.CodeGoingAway, "the proxy shuts down")
		return
	}
	s.start(ctx)
	select {
	case l.ready <- s:
	case <-hctx.Done():
		_ = s.Close(wire.CodeTooMany, "too many new sessions") // never fails
	case <-s.done:
	}
}

// greet takes Hello and answers Welcome.
func (l *Listener) greet(ctx context.Context, conn *link.Conn) (*Session, error) {
	state := conn.TLS()
	peer, err := certs.PeerIdentity(state)
	if err != nil {
		return nil, &SessionError{Code: wire.CodeBadRequest, Text: err.Error()}
	}
	if peer.Node == "" {
		return nil, &SessionError{Code: wire.CodeBadRequest, Text: "certificate is not an edge's"}
	}
	if l.cfg.Refuse != nil {
		if code, text := l.cfg.Refuse(peer, state.PeerCertificates[0]); code != wire.CodeOK {
			return nil, &SessionError{Code: code, Text: text}
		}
	}
	control, err := conn.AcceptStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for control stream of %s: %w", peer.Node, sessionError(err))
	}
	kind, err := wire.ReadKind(byteReader{control})
	if err == nil && kind != wire.KindControl {
		return nil, &SessionError{Code: wire.CodeProtocol, Text: fmt.Sprintf("first stream is %s, not control", kind)}
	}
	var f wire.Frame
	if err == nil {
		f, err = wire.NewReader(bufio.NewReaderSize(control, 256), maxControlFrame).Next()
	}
	switch {
	case errors.Is(err, wire.ErrMalformed), errors.Is(err, wire.ErrTooLarge):
		return nil, &SessionError{Code: wire.CodeProtocol, Text: err.Error()}
	case err != nil:
		return nil, fmt.Errorf("wait for hello of %s: %w", peer.Node, sessionError(err))
	}
	hello, ok := f.(*wire.Hello)
	if !ok {
		return nil, &SessionError{Code: wire.CodeProtocol, Text: fmt.Sprintf("%T instead of hello", f)}
	}
	if !slices.Contains(hello.Versions, wire.Version) {
		return nil, &SessionError{
			Code: wire.CodeVersion,
			Text: fmt.Sprintf("the edge speaks %d, the cloud %d", hello.Versions, wire.Version),
		}
	}
	welcome := wire.Welcome{Version: wire.Version, Replica: l.cfg.Replica, UnixMilli: uint64(time.Now().UnixMilli())}
	control.SetUrgency(urgency(wire.KindControl))
	if err := wire.Write(control, &welcome); err != nil {
		return nil, fmt.Errorf("say welcome to %s: %w", peer.Node, sessionError(err))
	}
	s := &Session{
		conn: conn, peer: peer, cert: state.PeerCertificates[0], hello: *hello, welcome: welcome, control: control,
		log: l.cfg.Log.With("edge", peer.Node),
	}
	s.release = func() { l.remove(s) }
	return s, nil
}

func (l *Listener) add(s *Session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.sessions[s] = struct{}{}
	}
	return !l.closed
}

func (l *Listener) remove(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, s)
}
