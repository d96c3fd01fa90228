package link

import (
	"time"

	"github.com/quic-go/quic-go"
)

const (
	// keepAlive is how often an idle edge sends something. NATs forget a
	// UDP flow after 30 s; 20 s leaves room for one packet that comes late.
	keepAlive = 20 * time.Second

	// handshakeIdle gives up when the peer is silent during the handshake. quic-go's
	// 5 s is less than what three lost packets cost on a link of 600 ms.
	handshakeIdle = 10 * time.Second

	// maxIdle is long because it isn't what notices a dead path: package tunnel
	// does, in seconds on the edge and in 45 s on the cloud. This is the backstop.
	maxIdle = 10 * time.Minute

	// packetSize is what the handshake needs of a path, and the lower limit after
	// it. 1280 is IPv6's minimum MTU with headers: 1232 of UDP payload pass every
	// IPv6 path and every tunnel (PPPoE, WireGuard, LTE) seen in the field; path MTU
	// discovery raises it on better ones.
	packetSize = 1232
)

// Limits bound what a peer can make this side hold, and differ between the sides.
type Limits struct {
	// MaxLanes is how many lanes the peer may have open at once.
	MaxLanes int
	// StreamWindow and ConnWindow are the most bytes that the peer may have under
	// way, in one lane and in all.
	// quic-go starts at 512 and 768 KiB and grows while the reader keeps up.
	StreamWindow, ConnWindow uint64
	// KeepAlive is how long this side lets the line be silent before it sends
	// something; zero means for ever.
	KeepAlive time.Duration
}

// EdgeLimits are for the side with one connection: 2 MiB fill 10 Mbit/s at
// 1.6 s of round trip, 8 MiB are a gateway's whole share for the tunnel.
func EdgeLimits(lanes int) Limits {
	return Limits{MaxLanes: lanes, StreamWindow: 2 << 20, ConnWindow: 8 << 20, KeepAlive: keepAlive}
}

// CloudLimits are for the side with thousands of connections: 1 MiB fill
// 10 Mbit/s at 0.8 s; 4 MiB times the edges is what a process can be made to hold.
// It keeps nothing alive: only a packet from inside opens a NAT, and with both
// sides at it their packets cross and cost twice.
func CloudLimits(lanes int) Limits {
	return Limits{MaxLanes: lanes, StreamWindow: 1 << 20, ConnWindow: 4 << 20}
}

func (l Limits) config() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           handshakeIdle,
		MaxIdleTimeout:                 maxIdle,
		KeepAlivePeriod:                l.KeepAlive,
		InitialStreamReceiveWindow:     min(l.StreamWindow, 512<<10),
		MaxStreamReceiveWindow:         l.StreamWindow,
		InitialConnectionReceiveWindow: min(l.ConnWindow, 768<<10),
		MaxConnectionReceiveWindow:     l.ConnWindow,
		MaxIncomingStreams:             -1,
		MaxIncomingUniStreams:          int64(l.MaxLanes),
		EnableDatagrams:                true, // heartbeats
		Allow0RTT:                      true, // package tunnel looks at Conn.Early
		InitialPacketSize:              packetSize,
	}
}
