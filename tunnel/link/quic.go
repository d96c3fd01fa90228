package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"

	"github.com/quic-go/quic-go"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// quicConn is a QUIC connection. Its lanes are unidirectional streams.
type quicConn struct {
	q      *quic.Conn
	t      *Transport
	server bool
	settle func() // takes the connection off the listener's count of pending ones
}

var _ Conn = (*quicConn)(nil)

// Kind implements Conn.
func (*quicConn) Kind() string { return KindQUIC }

// OpenLane implements Conn.
func (c *quicConn) OpenLane(ctx context.Context, urgency int8) (Lane, error) { //nolint:ireturn // one of two carriers'
	q, err := c.q.OpenUniStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("open lane: %w", connError(err))
	}
	q.SetPriority(urgency, true)
	return &quicLane{q}, nil
}

// AcceptLane implements Conn. Lanes come in the order in which they were opened;
// the first bytes of one may arrive later than those of the next.
func (c *quicConn) AcceptLane(ctx context.Context) (io.Reader, error) {
	q, err := c.q.AcceptUniStream(ctx)
	if err != nil {
		return nil, connError(err)
	}
	return quicReader{q}, nil
}

// Ping implements Conn: the peer acknowledges the packet.
func (c *quicConn) Ping() error { return connError(c.q.SendDatagram(wire.Heartbeat())) }

// receivePings takes in the peer's pings until the connection ends. Left alone,
// they would fill quic-go's queue and stay there.
func (c *quicConn) receivePings(ctx context.Context) {
	for {
		if _, err := c.q.ReceiveDatagram(ctx); err != nil {
			return // the connection has ended
		}
	}
}

// Early implements Conn.
func (c *quicConn) Early() bool { return c.q.ConnectionState().Used0RTT }

// Handshake implements Conn.
func (c *quicConn) Handshake(ctx context.Context) error {
	select {
	case <-c.q.HandshakeComplete():
		return nil
	case <-c.q.Context().Done():
		return c.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Settle implements Conn.
func (c *quicConn) Settle() {
	if c.settle != nil {
		c.settle()
	}
}

// Close implements Conn.
func (c *quicConn) Close(code wire.Code, text string) {
	_ = c.q.CloseWithError(quic.ApplicationErrorCode(code), text) // its error is always nil
}

// Done implements Conn.
func (c *quicConn) Done() <-chan struct{} { return c.q.Context().Done() }

// Err implements Conn.
func (c *quicConn) Err() error { return connError(context.Cause(c.q.Context())) }

// TLS implements Conn.
func (c *quicConn) TLS() tls.ConnectionState { return c.q.ConnectionState().TLS }

// LocalAddr implements Conn.
func (c *quicConn) LocalAddr() net.Addr { return c.q.LocalAddr() }

// RemoteAddr implements Conn.
func (c *quicConn) RemoteAddr() net.Addr { return c.q.RemoteAddr() }

// Stats implements Conn.
func (c *quicConn) Stats() Stats {
	s := c.q.ConnectionStats()
	return Stats{
		RTT:       s.SmoothedRTT,
		BytesSent: s.BytesSent, BytesReceived: s.BytesReceived,
		PacketsSent: s.PacketsSent, PacketsReceived: s.PacketsReceived,
		PacketsLost: s.PacketsLost,
		Received:    s.PacketsReceived,
	}
}
