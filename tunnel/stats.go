package tunnel

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Stats are a session's figures at one moment. Those of carriers are of all that
// the session has had.
type Stats struct {
	// Attached reports whether there is a carrier, AttachedSince since when there is
	// or is not.
	Attached      bool
	AttachedSince time.Time
	// Link names the carrier: link.KindQUIC, link.KindTLS, or nothing.
	Link string
	// Device is what an edge's carrier is bound to; it is empty while the routing
	// table chooses.
	Device string
	// LocalAddr and RemoteAddr are the newest carrier's; RemoteAddr changes as the
	// peer moves.
	LocalAddr, RemoteAddr net.Addr
	// Since is when the session began.
	Since time.Time
	// RTT is the newest carrier's smoothed round-trip time.
	RTT time.Duration
	// BytesSent and the other counters include the carriers' own overhead, but not
	// UDP, TCP and IP headers.
	BytesSent, BytesReceived     uint64
	PacketsSent, PacketsReceived uint64
	PacketsLost                  uint64
	// Streams is how many are open, both sides' together.
	Streams int
	// Links counts the carriers, Resumes those after the first, and Migrations the
	// changes of the peer's address under a living carrier.
	Links, Resumes, Migrations uint64
	// ReplayedBytes were sent again on another carrier, DuplicateBytes came again.
	ReplayedBytes, DuplicateBytes uint64
	// CopiedBytes were sent twice at once, because the link loses packets.
	CopiedBytes uint64
	// Buffered is how many bytes streams may hold at the moment.
	Buffered int64
	// ByKind has what each kind of stream did.
	ByKind map[wire.Kind]KindStats
}

// ListenerStats are what the bounds of a Listener hold back, at one moment.
type ListenerStats struct {
	// Pending are the handshakes and Hellos in flight, of MaxPending by QUIC and as
	// many by TCP; RefusedPending were more than that.
	Pending, MaxPending int
	RefusedPending      uint64
	// AskedPending are first packets of strangers that had to prove their address,
	// because a quarter of MaxPending was its address's, or half of it anybody's.
	AskedPending uint64
	// Memory is what the streams of all edges may hold now, of MaxMemory.
	Memory, MaxMemory int64
	// RefusedStreams and RefusedMemory are streams of either side beyond the bound on
	// their number, or on memory.
	RefusedStreams, RefusedMemory uint64
}

// Stats reads what the listener's bounds hold back.
func (l *Listener) Stats() ListenerStats {
	st := ListenerStats{
		MaxPending: l.cfg.MaxPending, Memory: l.memory.used.Load(), MaxMemory: l.memory.max,
		RefusedStreams: l.refused.streams.Load(), RefusedMemory: l.refused.memory.Load(),
	}
	st.Pending, st.RefusedPending = l.transport.Pending()
	st.AskedPending = l.transport.Asked()
	if l.tcp != nil {
		now, refused := l.tcp.Pending()
		st.Pending += now
		st.RefusedPending += refused
	}
	return st
}

// KindStats are what the streams of one kind did: how many were opened, and the
// bytes that were written to them and came by them.
type KindStats struct {
	Streams, Sent, Received uint64
}

// counters are what Stats needs beyond the session's state. The session's mutex
// guards the fields that are not atomic.
type counters struct {
	replayed, duplicate atomic.Uint64
	copied              atomic.Uint64
	migrations          atomic.Uint64
	links               uint64
	past                link.Stats // of carriers that have ended
	local, remote       net.Addr
	byKind              map[wire.Kind]*kindCounters
}

type kindCounters struct{ streams, sent, received atomic.Uint64 }

// maxKinds bounds the kinds that a peer can make us count.
const maxKinds = 32

// kind gives the counters of a kind of streams.
func (s *Session) kind(k wire.Kind) *kindCounters {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.byKind[k]
	if c == nil {
		c = &kindCounters{}
		if len(s.byKind) < maxKinds {
			s.byKind[k] = c
		}
	}
	return c
}

// Stats reads the session's figures.
func (s *Session) Stats() Stats {
	var live link.Stats
	c := s.current.Load()
	if c != nil {
		s.locate(c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Attached: s.state.ok, AttachedSince: s.state.since, Since: s.since,
		LocalAddr: s.local, RemoteAddr: s.remote,
		Streams: len(s.streams.streams),
		Links:   s.links, Resumes: max(s.links, 1) - 1, Migrations: s.migrations.Load(),
		ReplayedBytes: s.replayed.Load(), DuplicateBytes: s.duplicate.Load(),
		CopiedBytes: s.copied.Load(), Buffered: s.memory.used.Load(),
		ByKind: make(map[wire.Kind]KindStats, len(s.byKind)),
	}
	if c != nil && !closed(c.gone) {
		live = c.conn.Stats()
		st.Link, st.Device, st.RTT = c.conn.Kind(), c.way, live.RTT
		st.LocalAddr, st.RemoteAddr = c.conn.LocalAddr(), c.conn.RemoteAddr()
	}
	sum := add(s.past, live)
	st.BytesSent, st.BytesReceived = sum.BytesSent, sum.BytesReceived
	st.PacketsSent, st.PacketsReceived, st.PacketsLost = sum.PacketsSent, sum.PacketsReceived, sum.PacketsLost
	for k, c := range s.byKind {
		st.ByKind[k] = KindStats{c.streams.Load(), c.sent.Load(), c.received.Load()}
	}
	return st
}

func add(a, b link.Stats) link.Stats {
	a.BytesSent += b.BytesSent
	a.BytesReceived += b.BytesReceived
	a.PacketsSent += b.PacketsSent
	a.PacketsReceived += b.PacketsReceived
	a.PacketsLost += b.PacketsLost
	return a
}
