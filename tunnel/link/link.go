package link

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// The kinds of carriers, as statistics name them.
const (
	KindQUIC = "quic"
	KindTLS  = "tls"
)

// Conn is one carrier: an authenticated connection with any number of lanes in
// each direction. All that was written into a lane arrives, in order, unless the
// connection ends first.
type Conn interface {
	// Kind is KindQUIC or KindTLS.
	Kind() string
	// OpenLane opens a lane to the peer. It waits while the peer allows no more.
	OpenLane(ctx context.Context, urgency int8) (Lane, error)
	// AcceptLane waits for a lane of the peer. What it gives must be read all the
	// time: an unread lane may stop the others.
	AcceptLane(ctx context.Context) (io.Reader, error)
	// Ping sends something that makes Stats.Received grow on its return. It does not
	// wait.
	Ping() error
	// Early reports that the peer sent, and may be answered, before its handshake was
	// done: what it sent may be a copy of what it sent before.
	Early() bool
	// Handshake waits until the handshake is done, and the peer with it proven to be
	// there and who it is.
	Handshake(ctx context.Context) error
	// Settle says that the peer is known now, so that it no longer counts as pending.
	Settle()
	// Close ends the connection and tells the peer once; it does not wait for what
	// was written to arrive.
	Close(code wire.Code, text string)
	// Done is closed when the connection has ended.
	Done() <-chan struct{}
	// Err is why the connection ended, a *ConnError, or nil.
	Err() error
	// TLS is the state of the handshake, which on a Conn that is Early has the peer's
	// certificate of an earlier connection.
	TLS() tls.ConnectionState
	// LocalAddr is the socket's address.
	LocalAddr() net.Addr
	// RemoteAddr is where the peer is now; it changes when the peer moves.
	RemoteAddr() net.Addr
	// Stats reads the counters.
	Stats() Stats
}

// Lane is an ordered one-way pipe of frames. Its methods must not be called
// beside each other, but for Cancel.
type Lane interface {
	// Write sends whole frames; frames of lanes that share a pipe mix between calls.
	// It returns when the bytes are on their way but for the last packet's worth.
	Write(frames []byte) (int, error)
	// Close ends the lane after what was written.
	Close() error
	// Cancel ends the lane and drops what was not delivered yet, if the carrier can.
	Cancel(code wire.Code)
}

// Stats are counters of one connection. Bytes are those that the carrier gives
// to the network layer below it: QUIC packets without UDP and IP headers, TLS
// records without TCP's.
type Stats struct {
	// RTT is the smoothed round-trip time.
	RTT                      time.Duration
	BytesSent, BytesReceived uint64
	// PacketsSent, PacketsReceived and PacketsLost are QUIC's packets or TCP's
	// segments; lost are those sent again.
	PacketsSent, PacketsReceived, PacketsLost uint64
	// Received grows with each sign of life of the peer itself.
	Received uint64
}
