package tunnel

import (
	"sync"

	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// frames keeps the buffers in which frames are put together.
type frames struct{ pool sync.Pool }

func (f *frames) get() *[]byte {
	if b, ok := f.pool.Get().(*[]byte); ok {
		return b
	}
	return new(make([]byte, 0, wire.MaxChunk+64))
}

func (f *frames) put(b *[]byte) {
	if cap(*b) <= 2*wire.MaxChunk {
		f.pool.Put(b)
	}
}

// kickLocked starts the stream's pump if there is something to send and none
// runs. A stream without anything to send has no goroutine.
func (st *Stream) kickLocked() {
	c := st.s.current.Load()
	if c == nil || !st.workLocked() {
		return
	}
	if p := st.bulkLocked(c); p != nil {
		p.enqueue(st)
		return
	}
	if st.pumping {
		return
	}
	st.pumping = st.s.spawn(st.pump)
}

func (st *Stream) workLocked() bool {
	return !st.left && (st.unopenedLocked() || st.send.pending())
}

// unopenedLocked reports that the peer may not know the stream yet.
func (st *Stream) unopenedLocked() bool {
	return !st.peer && !st.known && !st.opened && !st.send.done && !st.send.aborted
}

// pump sends until there is nothing more to send or no carrier.
func (st *Stream) pump() {
	buf := st.s.frames.get()
	defer st.s.frames.put(buf)
	for {
		out, ok := st.next((*buf)[:0])
		if !ok {
			return
		}
		*buf = out.frame
		if err := st.deliver(out); err != nil {
			// Whatever was not delivered goes out again by the next carrier.
			out.carrier.fail(err)
			<-out.carrier.gone
		}
	}
}

// outgoing is one write to a lane.
type outgoing struct {
	carrier *carrier
	lane    link.Lane // nil: still to be opened
	frame   []byte
	fin     bool
}

// next composes the next write; when there is none the pump has ended.
func (st *Stream) next(b []byte) (outgoing, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	c := st.s.current.Load()
	if c == nil {
		st.pumping = false
		return outgoing{}, false
	}
	if st.carrier != c {
		st.carrier, st.lane, st.opened = c, nil, false
	}
	if p := st.bulkLocked(c); p != nil {
		p.enqueue(st)
		st.pumping = false
		return outgoing{}, false
	}
	if st.unopenedLocked() {
		b = wire.Append(b, &wire.StreamOpen{ID: st.id, Kind: st.kind, Limit: st.recv.limit})
		st.opened = true
	}
	d, ok := st.send.chunk(wire.MaxChunk, true)
	if ok {
		d.ID = st.id
		st.copyLocked(c, &d)
		b = wire.Append(b, &d)
		if again := st.send.sent(d.Offset, len(d.Bytes)); again > 0 {
			st.s.replayed.Add(uint64(again))
		}
	}
	if len(b) == 0 {
		st.pumping = false
		return outgoing{}, false
	}
	if ok {
		st.wakeLocked() // there may be room now for a Write
	}
	return outgoing{carrier: c, lane: st.lane, frame: b, fin: d.Fin}, true
}

// deliver writes to the stream's lane, and opens it first if it has none.
func (st *Stream) deliver(out outgoing) error {
	lane := out.lane
	if lane == nil {
		var err error
		if lane, err = out.carrier.conn.OpenLane(out.carrier.ctx, urgency(st.kind)); err != nil {
			return err
		}
		st.mu.Lock()
		ended := st.send.aborted || st.send.done
		if st.carrier == out.carrier {
			st.lane = lane
		}
		st.mu.Unlock()
		if ended {
			lane.Cancel(wire.CodeCanceled)
			return nil
		}
	}
	st.spaced(out.carrier, len(out.frame))
	st.s.wrote()
	_, err := lane.Write(out.frame)
	st.s.moved()
	if err == nil && out.fin {
		err = lane.Close()
		st.mu.Lock()
		if st.lane == lane { // what a packet has lost needs another
			st.lane = nil
		}
		st.mu.Unlock()
	}
	if err != nil {
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.send.aborted || st.send.done {
			return nil // canceled, and nothing is missed
		}
	}
	return err
}

// news appends what the peer must hear of the stream, and reports whether this
// side has finished with it once that has been said. It is the level that counts,
// not the events before it.
func (st *Stream) news(b []byte) (out []byte, finished bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.left {
		return b, false
	}
	if st.send.aborted && !st.send.done && !st.send.told {
		b = wire.Append(b, &wire.StreamAbort{ID: st.id, Code: st.send.code})
		st.send.told = true
	}
	if st.recv.due() || st.again {
		a := st.recv.ack(st.id)
		b = wire.Append(b, &a)
		st.recv.told = st.recv.done
		st.again = false
	}
	return b, st.send.done && st.recv.done
}

// position is how far this side has come, for Resume. A Resume may be lost, so what
// it says must still be said by the carrier that is there.
func (st *Stream) position() wire.StreamAck {
	st.mu.Lock()
	defer st.mu.Unlock()
	d := st.recv
	return d.ack(st.id)
}

// rewind prepares the stream for another carrier. at is how far the peer has
// come; nil means that it did not know the stream when it said so: it had not seen
// it then, or has finished with it and answers that as soon as it hears of it again.
func (st *Stream) rewind(at *wire.StreamAck) (ok bool) {
	ok = true
	if at != nil {
		ok = st.acked(at)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.send.rewind()
	st.opened, st.lane, st.carrier = false, nil, nil
	st.again = true
	return ok
}

// preview appends the first bytes that the peer may not have, most at most, and
// changes nothing: they are sent again in their turn.
func (st *Stream) preview(b []byte, most int) []byte {
	st.mu.Lock()
	defer st.mu.Unlock()
	d := &st.send
	if d.done || d.aborted || len(d.buf) == 0 {
		return b
	}
	if !st.peer && !st.known {
		b = wire.Append(b, &wire.StreamOpen{ID: st.id, Kind: st.kind, Limit: st.recv.limit})
	}
	n := min(len(d.buf), most, int(max(d.limit, d.base)-d.base))
	return wire.Append(b, &wire.StreamData{ID: st.id, Offset: d.base, Bytes: d.buf[:n], Fin: d.fin && n == len(d.buf)})
}

// kick starts the pump if need be.
func (st *Stream) kick() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.kickLocked()
}
