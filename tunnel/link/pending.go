package link

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/quic-go/quic-go"
)

// pending counts connections whose peer is not known yet: from its first packet
// to Conn.Settle or the end of the connection. It bounds what strangers can make
// the listener hold.
type pending struct {
	max int
	mu  sync.Mutex // guards the following fields
	n   int
	// refused counts those for whom there was no place.
	refused uint64
}

var errPending = errors.New("too many handshakes in flight")

type ticketKey struct{}

// ticket is one connection's place in the count.
type ticket struct {
	p    *pending
	once sync.Once
}

func (t *ticket) release() {
	t.once.Do(func() {
		t.p.mu.Lock()
		t.p.n--
		t.p.mu.Unlock()
	})
}

// take gives a place in the count; nil means that none is free.
func (p *pending) take() *ticket {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n >= p.max {
		p.refused++
		return nil
	}
	p.n++
	return &ticket{p: p}
}

// counts gives how many are pending, and how many were refused so far.
func (p *pending) counts() (now int, refused uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n, p.refused
}

// admit is called with the first packet of a connection; an error refuses it.
func (p *pending) admit(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	t := p.take()
	if t == nil {
		return nil, errPending
	}
	// quic-go ends this context with the connection, also when its handshake fails.
	context.AfterFunc(ctx, t.release)
	return context.WithValue(ctx, ticketKey{}, t), nil
}

func (p *pending) crowded(net.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n >= max(p.max/2, 1)
}
