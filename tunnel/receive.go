package tunnel

import (
	"slices"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// maxGaps bounds the pieces of a stream that came before those in front of them.
// Only packets, and several carriers at once, make any: as many as packets fit into a
// window, if each second one is lost.
const maxGaps = 4096

// piece is bytes at their place.
type piece struct {
	offset uint64
	b      []byte
}

// receiver is the receiving direction of a stream. The stream's mutex guards it.
type receiver struct {
	ready    [][]byte // without a gap, from read on
	early    []piece  // behind a gap, by offset
	read     uint64   // given to the reader
	received uint64   // without a gap
	limit    uint64   // how far the peer may go
	window   uint64   // limit is renewed to read+window
	acked    uint64   // received, as the peer knows it
	shown    uint64   // limit, as the peer knows it
	renewed  time.Time

	end  uint64 // the direction's length, when hasEnd
	fin  bool   // hasEnd
	done bool   // nothing more is needed
	told bool   // the peer was told so
	// ended says that the peer has ended the direction itself: then it forgets the
	// stream only when it needs nothing of the other one either.
	ended bool
	code  wire.Code
	err   error // what Read gives when ready is empty and done
}

// take takes in a piece. It reports how many bytes were new, and false when the
// peer broke a rule: beyond limit, beyond the end, another end.
func (d *receiver) take(offset uint64, b []byte, fin bool) (fresh int, ok bool) {
	if d.done {
		return 0, true
	}
	end := offset + uint64(len(b))
	switch {
	case end > d.limit, d.fin && end > d.end, d.fin && fin && end != d.end, fin && end < d.received:
		return 0, false
	case fin && len(d.early) > 0 && end < d.early[len(d.early)-1].offset+uint64(len(d.early[len(d.early)-1].b)):
		return 0, false
	case fin:
		d.fin, d.end = true, end
	}
	if offset <= d.received {
		if end > d.received {
			fresh = d.append(b[d.received-offset:])
		}
		fresh += d.join()
	} else if len(b) > 0 {
		if len(d.early) >= maxGaps {
			return 0, false
		}
		d.keep(offset, b)
	}
	return fresh, true
}

// keep puts aside what is not there yet of a piece behind a gap.
func (d *receiver) keep(offset uint64, b []byte) {
	at := 0
	for ; at < len(d.early) && len(b) > 0; at++ {
		p := d.early[at]
		if front := min(uint64(len(b)), p.offset-min(offset, p.offset)); front > 0 {
			d.early = slices.Insert(d.early, at, piece{offset, slices.Clone(b[:front])})
			b, offset = b[front:], offset+front
			continue // p is the next one now
		}
		if covered := p.offset + uint64(len(p.b)); covered > offset {
			n := min(uint64(len(b)), covered-offset)
			b, offset = b[n:], offset+n
		}
	}
	switch n := len(d.early); {
	case len(b) == 0:
	case n > 0 && d.early[n-1].offset+uint64(len(d.early[n-1].b)) == offset:
		d.early[n-1].b = append(d.early[n-1].b, b...)
	default:
		d.early = append(d.early, piece{offset, slices.Clone(b)})
	}
}

func (d *receiver) append(b []byte) int {
	d.received += uint64(len(b))
	// Short pieces share a block, so that a peer that sends bytes one by one can't
	// make us hold a slice for each.
	if n := len(d.ready); n > 0 && len(b) <= cap(d.ready[n-1])-len(d.ready[n-1]) {
		d.ready[n-1] = append(d.ready[n-1], b...)
		return len(b)
	}
	block := make([]byte, len(b), max(len(b), min(512, int(d.window))))
	copy(block, b)
	d.ready = append(d.ready, block)
	return len(b)
}

// join appends what is no longer behind a gap.
func (d *receiver) join() (n int) {
	for len(d.early) > 0 && d.early[0].offset <= d.received {
		p := d.early[0]
		d.early = d.early[1:]
		if end := p.offset + uint64(len(p.b)); end > d.received {
			n += d.append(p.b[d.received-p.offset:])
		}
	}
	if len(d.early) == 0 {
		d.early = nil
	}
	return n
}

// whole reports that the direction has come to its end.
func (d *receiver) whole() bool { return d.fin && d.received == d.end }

// give copies to the reader what is there.
func (d *receiver) give(p []byte) (n int) {
	for len(d.ready) > 0 && n < len(p) {
		m := copy(p[n:], d.ready[0])
		n += m
		if d.ready[0] = d.ready[0][m:]; len(d.ready[0]) == 0 {
			d.ready[0] = nil
			d.ready = d.ready[1:]
		}
	}
	if len(d.ready) == 0 {
		d.ready = nil
	}
	d.read += uint64(n)
	return n
}

// finish says that nothing more is needed, and why.
func (d *receiver) finish(code wire.Code, err error) {
	if d.done {
		return
	}
	d.done, d.code, d.err = true, code, err
	d.early = nil
}

// due reports that the peer should hear how far we are: it must be able to drop
// what has come, and to go on. However large our window is, it may have no memory
// for more than baseWindow under way.
func (d *receiver) due() bool {
	if d.done {
		return !d.told
	}
	return d.limit != d.shown || d.received-d.acked >= baseWindow/2
}

func (d *receiver) ack(id uint64) wire.StreamAck {
	d.acked, d.shown = d.received, d.limit
	return wire.StreamAck{ID: id, Received: d.received, Limit: d.limit, Done: d.done, Code: d.code}
}
