package cloudproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// splitTimeout bounds the wait for a ClientHello.
	splitTimeout = 10 * time.Second
	// maxSplitting bounds the connections that have not said it yet.
	maxSplitting = 512
	// maxClientHello bounds its length, with room for what is still to come in TLS.
	maxClientHello = 32 << 10
	// acceptPause is waited after an error of Accept, which passes: no more files.
	acceptPause = 50 * time.Millisecond
)

// splitter makes two listeners of one: of those who offer a protocol in their
// ClientHello, and of all others. So edges and those who want to become edges use
// one port.
type splitter struct {
	ln       net.Listener
	protocol string
	with     *branch
	without  *branch
	wg       sync.WaitGroup
}

// branch is one of the two listeners.
type branch struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

var _ net.Listener = (*branch)(nil)

// split takes over a listener. run does the work.
func split(ln net.Listener, protocol string) *splitter {
	return &splitter{ln: ln, protocol: protocol, with: newBranch(ln.Addr()), without: newBranch(ln.Addr())}
}

func newBranch(addr net.Addr) *branch {
	return &branch{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// run accepts until ctx ends, and returns when nothing of it runs any more.
func (s *splitter) run(ctx context.Context) error {
	defer s.wg.Wait()
	defer func() { _, _ = s.with.Close(), s.without.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = s.ln.Close() })
	defer stop()
	places := make(chan struct{}, maxSplitting)
	for {
		conn, err := s.ln.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case places <- struct{}{}:
			s.wg.Go(func() {
				defer func() { <-places }()
				s.sort(ctx, conn)
			})
		default:
			_ = conn.Close()
		}
	}
}

// sort hands one connection to the branch that it belongs to.
func (s *splitter) sort(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	protocols, said, err := clientHello(conn)
	if !stop() || err != nil {
		_ = conn.Close()
		return
	}
	b := s.without
	if slices.Contains(protocols, s.protocol) {
		b = s.with
	}
	b.hand(ctx, &replayed{Conn: conn, said: bytes.NewReader(said)})
}

// clientHello reads a ClientHello, and gives the protocols that it offers and all
// bytes that were read.
func clientHello(conn net.Conn) (protocols []string, said []byte, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(splitTimeout)); err != nil {
		return nil, nil, err
	}
	heard := &listening{r: io.LimitReader(conn, maxClientHello)}
	errHeard := errors.New("heard")
	err = tls.Server(heard, &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			protocols = h.SupportedProtos
			return nil, errHeard
		},
	}).Handshake()
	if !errors.Is(err, errHeard) {
		return nil, nil, err
	}
	return protocols, heard.b.Bytes(), conn.SetReadDeadline(time.Time{})
}

// listening is a connection that says nothing and keeps what it hears.
type listening struct {
	net.Conn // nil: what is not here is not called before the ClientHello is read

	r io.Reader
	b bytes.Buffer
}

// Read implements net.Conn.
func (l *listening) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.b.Write(p[:n])
	return n, err
}

// Write implements net.Conn: an alert stays here.
func (*listening) Write(p []byte) (int, error) { return len(p), nil }

// replayed is a connection from which something was read already.
type replayed struct {
	net.Conn
	said *bytes.Reader
}

// Read implements net.Conn.
func (r *replayed) Read(p []byte) (int, error) {
	if r.said.Len() > 0 {
		return r.said.Read(p)
	}
	return r.Conn.Read(p)
}

// NetConn gives the connection below, for its socket options.
func (r *replayed) NetConn() net.Conn { return r.Conn }

// CloseWrite ends the sending direction.
func (r *replayed) CloseWrite() error {
	if c, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return r.Conn.Close()
}

// hand gives a connection to who accepts it.
func (b *branch) hand(ctx context.Context, conn net.Conn) {
	select {
	case b.conns <- conn:
	case <-b.closed:
		_ = conn.Close()
	case <-ctx.Done():
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (b *branch) Accept() (net.Conn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (b *branch) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// Addr implements net.Listener.
func (b *branch) Addr() net.Addr { return b.addr }
