package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/quic-go/quic-go"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// TransportConfig is what NewTransport needs.
type TransportConfig struct {
	// PacketConn is the socket, which the Transport then owns; see ListenUDP.
	PacketConn net.PacketConn
	// StatelessResetKey lets a restarted process tell its peers at once that it has
	// lost their connections; all zero means that it can't, and they find out by silence.
	StatelessResetKey [32]byte
	// TokenKey seals the tokens that spare a returning peer the validation of its
	// address; all zero means a random one.
	TokenKey [32]byte
	// MaxPending bounds the connections whose peer is not known yet, on a
	// Transport that listens; zero means 256. One address, or one IPv6 network of 64
	// bits, may have half of them.
	MaxPending int
}

// Transport is one UDP socket with the connections on it.
type Transport struct {
	q       *quic.Transport
	pending *pending
	inbox   inbox
}

// NewTransport makes a Transport that owns the socket.
func NewTransport(cfg TransportConfig) (*Transport, error) {
	if cfg.PacketConn == nil {
		return nil, errors.New("transport: PacketConn is missing")
	}
	if cfg.MaxPending == 0 {
		cfg.MaxPending = 256
	}
	p := newPending(cfg.MaxPending)
	// Address validation (Retry, one round trip more) is quic-go's default, off,
	// while few handshakes are in flight. With half of the bound taken it goes on,
	// so that forged source addresses can't take the other half.
	q := &quic.Transport{Conn: cfg.PacketConn, VerifySourceAddress: p.crowded, ConnContext: p.admit}
	if cfg.StatelessResetKey != ([32]byte{}) {
		key := quic.StatelessResetKey(cfg.StatelessResetKey)
		q.StatelessResetKey = &key
	}
	if cfg.TokenKey != ([32]byte{}) {
		key := quic.TokenGeneratorKey(cfg.TokenKey)
		q.TokenGeneratorKey = &key
	}
	t := &Transport{q: q, pending: p}
	t.inbox.t = t
	return t, nil
}

// Dial makes a connection. A refused or broken handshake gives a *ConnError.
//
// When this side has been at the peer before, early is called with a Conn whose
// handshake is still to be done, and what is written to it leaves with the first
// packet (0-RTT, RFC 9001, section 4.6). early may be nil. said tells whether
// the peer took what early wrote; if it did not, it is as if early was not called.
func (t *Transport) Dial(ctx context.Context, addr net.Addr, conf *tls.Config, l Limits, early func(Conn)) (c Conn, said bool, err error) { //nolint:ireturn // one of two carriers'
	conf = withTickets(conf, KindQUIC)
	if early == nil {
		q, err := t.q.Dial(ctx, addr, conf, l.config())
		if err != nil {
			return nil, false, fmt.Errorf("dial %s: %w", addr, connError(err))
		}
		return &quicConn{q: q, t: t}, false, nil
	}
	q, err := t.q.DialEarly(ctx, addr, conf, l.config())
	if err != nil {
		return nil, false, fmt.Errorf("dial %s: %w", addr, connError(err))
	}
	select {
	case <-q.HandshakeComplete():
		return &quicConn{q: q, t: t}, false, nil // never been here, or as fast as that
	default:
	}
	early(&quicConn{q: q, t: t})
	select {
	case <-q.HandshakeComplete():
	case <-q.Context().Done():
	case <-ctx.Done():
		_ = q.CloseWithError(quic.ApplicationErrorCode(wire.CodeNextCarrier), "") // its error is always nil
		return nil, false, fmt.Errorf("dial %s: %w", addr, ctx.Err())
	}
	if err := context.Cause(q.Context()); err != nil {
		return nil, false, fmt.Errorf("dial %s: %w", addr, connError(err))
	}
	if said = q.ConnectionState().Used0RTT; !said {
		if q, err = q.NextConnection(ctx); err != nil {
			return nil, false, fmt.Errorf("dial %s: %w", addr, connError(err))
		}
	}
	return &quicConn{q: q, t: t}, said, nil
}

// Listen takes connections in.
func (t *Transport) Listen(conf *tls.Config, l Limits) (*Listener, error) {
	q, err := t.q.ListenEarly(conf, l.config())
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", t.q.Conn.LocalAddr(), err)
	}
	return &Listener{q: q, t: t}, nil
}

// Pending is how many connections are there whose peer is not known yet, and how
// many more were refused so far.
func (t *Transport) Pending() (now int, refused uint64) { return t.pending.counts() }

// Asked is how many first packets were answered with no more than the demand to prove
// their address (Retry, RFC 9000, section 8.1.2), which keeps nothing.
func (t *Transport) Asked() uint64 { return t.pending.countAsked() }

// Close closes the socket. Connections that are still open end without a word
// to their peers.
func (t *Transport) Close() error {
	err := errors.Join(t.q.Close(), t.q.Conn.Close())
	t.inbox.wg.Wait()
	return err
}

// Listener gives connections whose handshake may still go on, see Conn.Handshake.
type Listener struct {
	q *quic.EarlyListener
	t *Transport
}

// Accept must be called in a tight loop: quic-go keeps 32 and refuses more.
func (l *Listener) Accept(ctx context.Context) (Conn, error) { //nolint:ireturn // one of two carriers'
	q, err := l.q.Accept(ctx)
	if err != nil {
		return nil, connError(err)
	}
	c := &quicConn{q: q, t: l.t, server: true}
	go c.receivePings(context.WithoutCancel(ctx)) // ends with the connection
	if t, ok := q.Context().Value(ticketKey{}).(*ticket); ok {
		c.settle = t.release
	}
	return c, nil
}

// Addr is the socket's address.
func (l *Listener) Addr() net.Addr { return l.q.Addr() }

// Close refuses new connections; those accepted live on.
func (l *Listener) Close() error { return l.q.Close() }
