package uplink

import (
	"net"
	"sync"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// acceptQueue bounds the streams of one kind that nobody has accepted yet.
const acceptQueue = 64

// listener gives the streams of one kind, whatever session they come from.
type listener struct {
	kind   wire.Kind
	up     *Uplink
	queue  chan *tunnel.Stream
	closed chan struct{}
	once   sync.Once
}

var _ net.Listener = (*listener)(nil)

// Listener gives the streams of a kind that the cloud opens. It lives across
// sessions, until it is closed or Run returns. Streams of a kind that has no
// listener are refused with CodeUnsupported, those that nobody accepts in time
// with CodeTooMany. Asked twice for a kind it gives the same listener.
func (u *Uplink) Listener(kind wire.Kind) net.Listener {
	u.mu.Lock()
	defer u.mu.Unlock()
	if l := u.listeners[kind]; l != nil {
		return l
	}
	l := &listener{
		kind: kind, up: u,
		queue:  make(chan *tunnel.Stream, acceptQueue),
		closed: make(chan struct{}),
	}
	if u.over {
		l.shut()
		return l
	}
	u.listeners[kind] = l
	return l
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case st := <-l.queue:
		return st, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections already accepted live on.
func (l *listener) Close() error {
	l.up.mu.Lock()
	if l.up.listeners[l.kind] == l {
		delete(l.up.listeners, l.kind)
	}
	l.up.mu.Unlock()
	l.shut()
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return addr(l.kind.String()) }

func (l *listener) deliver(st *tunnel.Stream) {
	select {
	case <-l.closed:
		st.Reset(wire.CodeUnsupported)
		return
	default:
	}
	select {
	case l.queue <- st:
	default:
		st.Reset(wire.CodeTooMany)
	}
}

// shut ends Accept and refuses what nobody accepted.
func (l *listener) shut() {
	l.once.Do(func() { close(l.closed) })
	for {
		select {
		case st := <-l.queue:
			st.Reset(wire.CodeUnsupported)
		default:
			return
		}
	}
}

// addr names a kind of stream where a net.Addr is wanted.
type addr string

func (addr) Network() string  { return "skerry" }
func (a addr) String() string { return string(a) }
