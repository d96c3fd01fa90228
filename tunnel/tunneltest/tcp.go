package tunneltest

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// tcp is the network's TCP: ordered, with the network's delay, and silent in an
// outage.
type tcp struct {
	n      *Net
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

var _ net.Listener = (*tcp)(nil)

func newTCP(n *Net) *tcp {
	return &tcp{n: n, accept: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *tcp) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *tcp) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *tcp) Addr() net.Addr {
	return &net.TCPAddr{IP: l.n.cloud.IP, Port: l.n.cloud.Port}
}

// dial is an edge's. It takes a round trip, as a TCP handshake does.
func (l *tcp) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	edge, here := net.Pipe()
	there, cloud := net.Pipe()
	select {
	case <-time.After(l.n.rtt):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !l.n.router.waitUp(ctx.Done()) {
		return nil, ctx.Err()
	}
	select {
	case l.accept <- cloud:
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.n.cables.Go(func() { l.carry(there, here) })
	l.n.cables.Go(func() { l.carry(here, there) })
	return edge, nil
}

// carry moves bytes one way until either end is closed.
func (l *tcp) carry(to, from net.Conn) {
	type segment struct {
		b  []byte
		at time.Time
	}
	gone := make(chan struct{})
	line := make(chan segment, 64)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(gone)
		defer func() { _ = to.Close() }()
		for s := range line {
			<-time.After(time.Until(s.at))
			if !l.n.router.waitUp(l.n.over) {
				return
			}
			if _, err := to.Write(s.b); err != nil {
				return
			}
		}
	})
	defer close(line)
	defer func() { _ = from.Close() }()
	for {
		b := make([]byte, 16<<10)
		n, err := from.Read(b)
		if n > 0 {
			select {
			case line <- segment{b[:n], time.Now().Add(l.n.rtt / 2)}:
			case <-gone:
				return
			}
		}
		if err != nil {
			return // the end, of whatever kind
		}
	}
}
