package bus

import (
	"time"

	"github.com/skerry-io/skerry/devices/modbus/frame"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

// tagged is the state of a connection with transaction ids (MBAP).
type tagged struct {
	reader frame.MBAPReader
	next   uint16
	// lost are ids of answers that may still come, oldest first, and when they were given
	// up; an id is not used again before quarantine has passed.
	lost []lostTag
}

type lostTag struct {
	tag uint16
	at  time.Time
}

const (
	quarantine = 2 * time.Minute
	maxLost    = 4096 // ids in quarantine; 65,536 exist
)

// tag returns a free transaction id.
func (t *tagged) tag(now time.Time, inFlight []*call) uint16 {
	for len(t.lost) > 0 && (now.Sub(t.lost[0].at) > quarantine || len(t.lost) > maxLost) {
		t.lost = t.lost[1:]
	}
	for {
		t.next++
		if !t.isLost(t.next) && find(inFlight, t.next) < 0 {
			return t.next
		}
	}
}

func (t *tagged) isLost(tag uint16) bool {
	for _, l := range t.lost {
		if l.tag == tag {
			return true
		}
	}
	return false
}

// find returns the index of the call with a tag, -1 if there is none.
func find(calls []*call, tag uint16) int {
	for i, c := range calls {
		if c.tag == tag {
			return i
		}
	}
	return -1
}

// untagged is the state of a line without ids (RTU): one call at a time.
type untagged struct {
	reader frame.RTUReader
	// free is when the line may be used again: it needs silence before a frame.
	free  time.Time
	since time.Time // calls wait for that; zero if none
	bytes int       // heard since the call was sent
}

// wire returns how long n characters take, 0 where that is not known: on TCP.
func (b *Bus) wire(n int) time.Duration {
	if b.cfg.Line.Baud == 0 {
		return 0
	}
	return b.cfg.Line.Transmit(n)
}

// exchange is the time that a request and its longest answer take on the wire.
func (b *Bus) exchange(r pdu.Request) time.Duration {
	const around = 3 // unit and CRC
	return b.wire(len(r)+around) + b.wire(r.MaxAnswer()+around)
}

// gap is the silence that ends a damaged answer. The specification's 1.5
// characters can't be seen through a UART's FIFO (16 characters), the 16 ms latency
// timer of a USB adapter and a busy kernel: they are waited for, too. Through a
// TCP gateway the bytes may come in pieces at any distance.
func (b *Bus) gap() time.Duration {
	if b.cfg.Line.Baud == 0 {
		return 0
	}
	const scheduling = 20 * time.Millisecond
	return b.cfg.Line.Pause() + b.cfg.Line.Transmit(16) + scheduling
}
