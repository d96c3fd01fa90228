package tunnel

import (
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// copyDelay is how much later than a message its copy leaves, at least, so that one
	// burst of loss does not take both; else it is a share of the round trip.
	copyDelay, copyShare = 10 * time.Millisecond, 10
	lastCopy             = 40 * time.Millisecond
	// maxCopy is the largest message that is sent twice.
	maxCopy = 1 << 10
	// firstCarried is how much the peer may send of a stream that packets carry, from the
	// first of them on: a start that waits for the window is seconds longer.
	firstCarried = 2 << 20
	// lossy is from what share of loss on, as one in so many packets.
	lossy = 200
)

// copyAt is a message that is to be sent once more.
type copyAt struct {
	at time.Time
	parcel
}

// packets gives the carrier's, if they are to be used for the stream's bulk.
func (st *Stream) bulkLocked(c *carrier) *packets {
	p := c.packets.Load()
	if p == nil || urgency(st.kind) < urgency(wire.KindDesired) || !st.peer && !st.known {
		return nil
	}
	if !p.usable.Load() || !st.send.data() {
		return nil
	}
	return p
}

// packet appends a frame with the next bytes. more says that there are others.
func (st *Stream) packet(b []byte, room int, c *carrier) (out []byte, l parcel, more bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.left || st.s.current.Load() != c || st.bulkLocked(c) == nil {
		st.kickLocked()
		return b, l, false
	}
	d, ok := st.send.chunk(room, false)
	if !ok {
		return b, l, false
	}
	d.ID = st.id
	b = wire.Append(b, &d)
	st.send.sent(d.Offset, len(d.Bytes))
	st.wakeLocked() // there may be room now for a Write
	more = st.send.data()
	if !more {
		st.kickLocked() // the end goes by a lane
	}
	return b, parcel{st: st, offset: d.Offset, n: len(d.Bytes)}, more
}

// lost takes back what a packet has lost.
func (st *Stream) lost(p *packets, l parcel) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.s.current.Load() != p.c {
		return // another carrier has begun anew
	}
	if !l.copied {
		if l.n > 0 {
			st.send.lose(l.offset, l.offset+uint64(l.n))
		}
		st.kickLocked()
	} else if !st.send.done && !st.send.aborted && st.send.base < l.offset+uint64(l.n) {
		p.copyLater(l, 0)
	}
}

// copyLocked has a message that leaves by a lane leave once more, if the link is one
// that loses packets.
func (st *Stream) copyLocked(c *carrier, d *wire.StreamData) {
	p := c.packets.Load()
	if p == nil || len(d.Bytes) == 0 || len(d.Bytes) > maxCopy || urgency(st.kind) > urgency(wire.KindExec) || !st.peer && !st.known {
		return
	}
	if !p.usable.Load() || !p.loses() {
		return
	}
	stats := c.conn.Stats()
	p.copyLater(parcel{st: st, offset: d.Offset, n: len(d.Bytes), copied: true}, min(max(stats.RTT/copyShare, copyDelay), lastCopy))
}

// loses reports whether the link loses packets.
func (p *packets) loses() bool {
	stats := p.c.conn.Stats()
	p.mu.Lock()
	defer p.mu.Unlock()
	sent, lost := p.out.Counts()
	return (stats.PacketsLost+lost)*lossy > stats.PacketsSent+sent
}

// copyLater is called with the stream's mutex held.
func (p *packets) copyLater(l parcel, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || !p.proven || len(p.copies) >= mostQueued {
		return
	}
	at := time.Now().Add(after)
	i := len(p.copies)
	for i > 0 && p.copies[i-1].at.After(at) {
		i--
	}
	p.copies = append(p.copies, copyAt{})
	copy(p.copies[i+1:], p.copies[i:])
	p.copies[i] = copyAt{at, l}
	if i == 0 {
		p.wakeLocked()
	}
}

// sendCopy sends the message whose copy is due. It lets go of the mutex.
func (p *packets) sendCopy(now time.Time) {
	l := p.copies[0].parcel
	p.copies = p.copies[1:]
	p.mu.Unlock()
	b := l.st.copyOf(p.buf[:0], &l, p.c)
	p.mu.Lock()
	if len(b) > 0 && !p.stopped && !p.out.Full() {
		p.s.copied.Add(uint64(l.n))
		p.send(now, b, l, true)
	}
}

// copyOf appends what of a message has not been acknowledged.
func (st *Stream) copyOf(b []byte, l *parcel, c *carrier) []byte {
	st.mu.Lock()
	defer st.mu.Unlock()
	d := &st.send
	end := l.offset + uint64(l.n)
	if st.left || d.done || d.aborted || d.base >= end || st.s.current.Load() != c {
		return b
	}
	from := max(l.offset, d.base)
	l.offset, l.n = from, int(end-from)
	return wire.Append(b, &wire.StreamData{ID: st.id, Offset: from, Bytes: d.buf[from-d.base:][:l.n]})
}

// widenLocked lets the peer send more than a stream begins with, once it has begun to
// come: a path that does not wait for its losses has more under way.
func (st *Stream) widenLocked() {
	d := &st.recv
	if d.window >= firstCarried || d.done || !st.carriedLocked() {
		return
	}
	if more := min(firstCarried, st.s.packetWindow) - min(d.window, st.s.packetWindow); st.s.memory.grow(int64(more)) {
		st.taken += int64(more)
		d.window += more
		d.limit = max(d.limit, d.read+d.window)
	}
}

// carriedLocked reports whether packets carry the stream.
func (st *Stream) carriedLocked() bool {
	if urgency(st.kind) < urgency(wire.KindDesired) {
		return false
	}
	c := st.s.current.Load()
	if c == nil {
		return false
	}
	p := c.packets.Load()
	return p != nil && p.usable.Load()
}

// mostLocked is how many bytes a direction may hold.
func (st *Stream) mostLocked() uint64 {
	if st.carriedLocked() {
		return st.s.packetWindow
	}
	return st.s.maxWindow
}

// flowLocked has the peer hear of the stream's limit without waiting for a lane.
func (st *Stream) flowLocked() {
	if c := st.s.current.Load(); c != nil {
		if p := c.packets.Load(); p != nil && p.usable.Load() {
			p.flow(st)
		}
	}
}
