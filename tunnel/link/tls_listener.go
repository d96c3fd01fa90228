package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// tlsHandshake bounds a stranger's handshake.
	tlsHandshake = 10 * time.Second
	// acceptPause is how long the listener waits when the process has no file
	// descriptor left; acceptPauseMax when it happens again and again.
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// TLSListener gives the connections whose handshake is done.
type TLSListener struct {
	ln      net.Listener
	conf    *tls.Config
	pending *pending
	ready   chan *tlsConn // has room for all that are pending
	closing chan struct{} // closed by Close
	stopped chan struct{} // closed when nothing is accepted any more
	wg      sync.WaitGroup

	mu         sync.Mutex // guards the following fields
	closed     bool
	handshakes map[net.Conn]struct{}
}

// ListenTLS takes connections in on a socket, which the TLSListener then owns; see
// ListenTCP. At most maxPending connections may be there whose peer is not known
// yet, from their first packet to Settle; zero means 256. More are closed at once.
// A peer must agree to one of conf's NextProtos.
func ListenTLS(ln net.Listener, conf *tls.Config, maxPending int) *TLSListener {
	if maxPending <= 0 {
		maxPending = 256
	}
	l := &TLSListener{
		ln: ln, conf: tlsConfig(conf), pending: newPending(maxPending),
		ready: make(chan *tlsConn, maxPending), closing: make(chan struct{}), stopped: make(chan struct{}),
		handshakes: map[net.Conn]struct{}{},
	}
	l.wg.Go(l.run)
	return l
}

// Accept waits for a connection.
func (l *TLSListener) Accept(ctx context.Context) (Conn, error) { //nolint:ireturn // one of two carriers'
	select {
	case c := <-l.ready:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.stopped:
		return nil, &ConnError{Code: wire.CodeGoingAway, Text: "listener is closed"}
	}
}

// Addr is the socket's address.
func (l *TLSListener) Addr() net.Addr { return l.ln.Addr() }

// Pending is how many connections are there whose peer is not known yet, and how
// many more were closed so far for want of a place.
func (l *TLSListener) Pending() (now int, refused uint64) { return l.pending.counts() }

// Close refuses new connections; those accepted live on.
func (l *TLSListener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	for c := range l.handshakes {
		_ = c.Close()
	}
	l.mu.Unlock()
	close(l.closing)
	err := l.ln.Close()
	l.wg.Wait()
	for {
		select {
		case c := <-l.ready:
			// Without a goodbye, which would be taken for the session's.
			c.fail(&ConnError{Code: wire.CodeGoingAway, Text: "listener is closed"})
		default:
			return err
		}
	}
}

func (l *TLSListener) run() {
	defer close(l.stopped)
	pause := acceptPause
	for {
		tcp, err := l.ln.Accept()
		switch {
		case err == nil:
			pause = acceptPause
			l.admit(tcp)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			timer := time.NewTimer(pause)
			pause = min(2*pause, acceptPauseMax)
			select {
			case <-timer.C:
			case <-l.closing:
				timer.Stop()
				return
			}
		}
	}
}

// admit starts the handshake if there is a place for one more stranger.
func (l *TLSListener) admit(tcp net.Conn) {
	t := l.pending.take(tcp.RemoteAddr())
	if t == nil {
		_ = tcp.Close()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = tcp.Close()
		t.release()
		return
	}
	l.handshakes[tcp] = struct{}{}
	l.wg.Go(func() {
		c, err := l.handshake(tcp, t)
		if err != nil {
			l.turnAway(tcp)
			t.release()
		}
		l.mu.Lock()
		delete(l.handshakes, tcp)
		l.mu.Unlock()
		if err == nil {
			l.ready <- c // it holds a ticket, so there is room
		}
	})
}

func (l *TLSListener) handshake(tcp net.Conn, t *ticket) (*tlsConn, error) {
	if err := tcp.SetDeadline(time.Now().Add(tlsHandshake)); err != nil {
		return nil, fmt.Errorf("bound the handshake: %w", err)
	}
	tune(tcpSocket(tcp))
	raw := newCounted(tcp)
	s := tls.Server(raw, l.conf)
	if err := s.Handshake(); err != nil {
		return nil, err
	}
	if err := checkALPN(s, l.conf); err != nil {
		return nil, err
	}
	if err := tcp.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("lift the handshake's bound: %w", err)
	}
	return newTLSConn(raw, s, 0, t.release), nil
}

// turnAway closes a connection after a failed handshake. What the peer sends
// meanwhile is read, or TCP would reset the connection and the peer might never
// see the alert that says why.
func (l *TLSListener) turnAway(tcp net.Conn) {
	if w, ok := tcp.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
		_ = tcp.SetReadDeadline(time.Now().Add(lastWords))
		_, _ = io.Copy(io.Discard, tcp)
	}
	_ = tcp.Close()
}
