package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"
)

// pending counts connections whose peer is not known yet: from its first packet
// to Conn.Settle or the end of the connection. It bounds what strangers can make
// the listener hold. One source may have half of the places, so that it can't keep
// all others out; many edges may share one behind a NAT.
type pending struct {
	max int

	mu sync.Mutex // guards the following fields
	n  int
	by map[netip.Prefix]int // sources that have places
	// refused counts those for whom there was no place, asked those who must prove
	// their address first.
	refused, asked uint64
}

func newPending(most int) *pending { return &pending{max: most, by: make(map[netip.Prefix]int)} }

var errPending = errors.New("too many handshakes in flight")

// source is what may be one stranger's: an IPv4 address, or a network of IPv6. It is
// not valid where addr is neither, as in a test.
func source(addr net.Addr) netip.Prefix {
	at, ok := addr.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.Prefix{}
	}
	ip := at.AddrPort().Addr().Unmap()
	p, err := ip.Prefix(min(ip.BitLen(), 64))
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

type ticketKey struct{}

// ticket is one connection's place in the count.
type ticket struct {
	p    *pending
	from netip.Prefix
	once sync.Once
}

func (t *ticket) release() {
	t.once.Do(func() {
		t.p.mu.Lock()
		defer t.p.mu.Unlock()
		t.p.n--
		if t.p.by[t.from]--; t.p.by[t.from] == 0 {
			delete(t.p.by, t.from)
		}
	})
}

// half is as many places as a share of them may be.
func (p *pending) half() int { return max(p.max/2, 1) }

// take gives a place in the count; nil means that none is free for addr.
func (p *pending) take(addr net.Addr) *ticket {
	from := source(addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n >= p.max || from.IsValid() && p.by[from] >= p.half() {
		p.refused++
		return nil
	}
	p.n++
	p.by[from]++
	return &ticket{p: p, from: from}
}

// counts gives how many are pending, and how many were refused so far.
func (p *pending) counts() (now int, refused uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n, p.refused
}

// admit is called with the first packet of a connection; an error refuses it.
func (p *pending) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	t := p.take(info.RemoteAddr)
	if t == nil {
		return nil, errPending
	}
	// quic-go ends this context with the connection, also when its handshake fails.
	context.AfterFunc(ctx, t.release)
	return context.WithValue(ctx, ticketKey{}, t), nil
}

// crowded reports whether a stranger must prove that addr is its own: when half of
// all places are taken, or half of those that addr may have. So forged addresses take
// no place from those that are not, and none from the one that they forge.
func (p *pending) crowded(addr net.Addr) bool {
	from := source(addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	crowded := p.n >= p.half() || p.by[from] >= max(p.half()/2, 1)
	if crowded {
		p.asked++
	}
	return crowded
}

func (p *pending) countAsked() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}
