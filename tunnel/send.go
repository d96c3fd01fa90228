package tunnel

import (
	"cmp"
	"slices"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// maxUnsent is how much of what was written may wait for its first departure:
	// more would only make the delay longer.
	maxUnsent = 64 << 10
	// growStep is how much room a busy direction takes at once.
	growStep = 64 << 10
)

// sender is the sending direction of a stream. The stream's mutex guards it.
type sender struct {
	buf  []byte // from base on: not acknowledged, or not sent
	all  []byte // the array of which buf is a part, empty
	base uint64 // offset of buf[0]
	next uint64 // what the present carrier sends next
	// lost has what the present carrier has lost in packets, in order.
	lost []span
	top  uint64 // what was sent by any carrier
	// limit is how far the peer lets us go.
	limit uint64
	// room is how much buf may hold.
	room int

	fin     bool // nothing more will be written
	finSent bool // on the present carrier
	aborted bool // ends before its end, with code
	told    bool // abort was sent on the present carrier
	code    wire.Code
	done    bool  // the peer needs nothing more
	err     error // why writes fail, once done or aborted
}

// space is how many bytes a write may add now.
func (d *sender) space() int {
	unsent := int(d.base + uint64(len(d.buf)) - d.next)
	return max(min(d.room-len(d.buf), maxUnsent-unsent), 0)
}

// full reports that more room would let a write go on.
func (d *sender) full() bool { return len(d.buf) >= d.room }

// write adds to buf. What was acknowledged leaves room in front of it, which is used
// again as soon as that is half as much as what stays and must be moved.
func (d *sender) write(p []byte) {
	if need := len(d.buf) + len(p); need > cap(d.buf) {
		if need > cap(d.all)/3*2 {
			d.all = make([]byte, 0, need+need/2)
		}
		d.buf = d.all[:copy(d.all[:len(d.buf)], d.buf)]
	}
	d.buf = append(d.buf, p...)
}

// drop forgets all bytes.
func (d *sender) drop() { d.buf, d.all, d.lost = nil, nil, nil }

// chunk gives what to send next, if there is anything, at most so many bytes; they are
// valid until the mutex is released. whole says that the direction's end may go with
// them: it must not be lost.
func (d *sender) chunk(most int, whole bool) (c wire.StreamData, ok bool) {
	if d.done || d.aborted {
		return c, false
	}
	if len(d.lost) > 0 {
		l := &d.lost[0]
		n := min(l.to-l.from, uint64(most))
		c.Offset, c.Bytes = l.from, d.buf[l.from-d.base:][:n]
		if l.from += n; l.from == l.to {
			d.lost = d.lost[1:]
		}
		return c, true
	}
	end := d.base + uint64(len(d.buf))
	n := min(end, d.limit) - min(d.next, d.limit)
	n = min(n, uint64(most))
	c.Offset = d.next
	c.Bytes = d.buf[d.next-d.base:][:n]
	c.Fin = whole && d.fin && d.next+n == end
	if n == 0 && (!c.Fin || d.finSent) {
		return c, false
	}
	d.next += n
	d.finSent = d.finSent || c.Fin
	return c, true
}

// span is bytes from one offset up to another.
type span struct{ from, to uint64 }

// lose takes in that bytes were lost that left as a packet.
func (d *sender) lose(from, to uint64) {
	from = max(from, d.base)
	if d.done || d.aborted || from >= to {
		return
	}
	i, _ := slices.BinarySearchFunc(d.lost, from, func(l span, from uint64) int { return cmp.Compare(l.from, from) })
	if i > 0 && d.lost[i-1].to >= from {
		d.lost[i-1].to = max(d.lost[i-1].to, to)
		return
	}
	if i < len(d.lost) && d.lost[i].from <= to {
		d.lost[i] = span{from, max(to, d.lost[i].to)}
		return
	}
	d.lost = slices.Insert(d.lost, i, span{from, to})
}

// data reports whether bytes could be sent now.
func (d *sender) data() bool {
	if d.done || d.aborted {
		return false
	}
	return len(d.lost) > 0 || min(d.base+uint64(len(d.buf)), d.limit) > d.next
}

// sent notes that bytes up to end have left, and gives how many of them for the
// second time.
func (d *sender) sent(offset uint64, n int) (again int) {
	end := offset + uint64(n)
	again = int(min(d.top, end) - min(offset, d.top))
	d.top = max(d.top, end)
	return again
}

// acked takes in what the peer says. It fails when the peer acknowledges what
// was never written.
func (d *sender) acked(received, limit uint64) bool {
	if received > d.base+uint64(len(d.buf)) {
		return false
	}
	d.limit = max(d.limit, limit)
	if received > d.base {
		d.buf = d.buf[received-d.base:]
		d.base = received
		d.next = max(d.next, received)
		for len(d.lost) > 0 && d.lost[0].to <= received {
			d.lost = d.lost[1:]
		}
		if len(d.lost) > 0 {
			d.lost[0].from = max(d.lost[0].from, received)
		}
		if len(d.buf) == 0 {
			d.drop()
		}
	}
	return true
}

// rewind begins again on another carrier, from what the peer has.
func (d *sender) rewind() {
	d.next, d.lost = d.base, nil
	d.finSent, d.told = false, false
}

// end drops everything: nothing more will be sent.
func (d *sender) end(err error) {
	d.done = true
	if d.err == nil {
		d.err = err
	}
	d.drop()
	d.next = d.base
}

// pending reports whether there is something to send now.
func (d *sender) pending() bool {
	if d.done || d.aborted {
		return false
	}
	end := d.base + uint64(len(d.buf))
	return d.data() || d.fin && !d.finSent && d.next == end
}
