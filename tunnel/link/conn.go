package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// Kind is the name of this carrier in statistics.
const Kind = "quic"

// Stats are counters of one connection. Bytes are those of QUIC packets,
// without UDP and IP headers.
type Stats struct {
	// RTT is the smoothed round-trip time.
	RTT                          time.Duration
	BytesSent, BytesReceived     uint64
	PacketsSent, PacketsReceived uint64
	PacketsLost                  uint64
}

// Conn is one connection.
type Conn struct {
	q      *quic.Conn
	settle func() // takes the connection off the listener's count of pending ones
}

// OpenStream opens a stream, or fails at once with ErrTooManyStreams. The peer
// sees the stream when something is written to it.
func (c *Conn) OpenStream() (*Stream, error) {
	q, err := c.q.OpenStream()
	var limit *quic.StreamLimitReachedError
	switch {
	case errors.As(err, &limit):
		return nil, ErrTooManyStreams
	case err != nil:
		return nil, connError(err)
	}
	return &Stream{q: q}, nil
}

// AcceptStream waits for a stream of the peer. They come in the order in which
// they were opened, and the first bytes of one may arrive later than those of
// the next.
func (c *Conn) AcceptStream(ctx context.Context) (*Stream, error) {
	q, err := c.q.AcceptStream(ctx)
	if err != nil {
		return nil, connError(err)
	}
	return &Stream{q: q}, nil
}

// Heartbeat sends a packet that the peer must acknowledge.
func (c *Conn) Heartbeat() error { return connError(c.q.SendDatagram(wire.Heartbeat())) }

// ReceiveHeartbeats takes in heartbeats until the connection ends.
func (c *Conn) ReceiveHeartbeats(ctx context.Context) error {
	for {
		if _, err := c.q.ReceiveDatagram(ctx); err != nil {
			return connError(err)
		}
	}
}

// Settle says that the peer is known now, so that it no longer counts as
// pending. Connections that were dialed need not.
func (c *Conn) Settle() {
	if c.settle != nil {
		c.settle()
	}
}

// Close ends the connection and tells the peer once; it does not wait for what
// was written to arrive.
func (c *Conn) Close(code wire.Code, text string) {
	_ = c.q.CloseWithError(quic.ApplicationErrorCode(code), text) // its error is always nil
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.q.Context().Done() }

// Err is why the connection ended, a *ConnError, or nil.
func (c *Conn) Err() error { return connError(context.Cause(c.q.Context())) }

// TLS is the state of the finished handshake.
func (c *Conn) TLS() tls.ConnectionState { return c.q.ConnectionState().TLS }

// LocalAddr is the socket's address.
func (c *Conn) LocalAddr() net.Addr { return c.q.LocalAddr() }

// RemoteAddr is where the peer is now; it changes when the peer moves.
func (c *Conn) RemoteAddr() net.Addr { return c.q.RemoteAddr() }

// Stats reads the counters.
func (c *Conn) Stats() Stats {
	s := c.q.ConnectionStats()
	return Stats{
		RTT:       s.SmoothedRTT,
		BytesSent: s.BytesSent, BytesReceived: s.BytesReceived,
		PacketsSent: s.PacketsSent, PacketsReceived: s.PacketsReceived,
		PacketsLost: s.PacketsLost,
	}
}
