package frame

import (
	"encoding/binary"

	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

const (
	crcSize = 2
	// MaxRTU is the length of the longest RTU frame.
	MaxRTU = 1 + pdu.MaxSize + crcSize
	// maxPending bounds what is kept in search of a frame: an answer whose first
	// byte is within the last MaxRTU bytes is still found.
	maxPending = 2 * MaxRTU
)

// AppendRTU adds a frame with its CRC to b.
func AppendRTU(b []byte, unit byte, body []byte) []byte {
	from := len(b)
	b = append(append(b, unit), body...)
	return binary.LittleEndian.AppendUint16(b, crc(b[from:]))
}

// RTUReader finds answers among whatever a line carries: noise, echoes, answers
// to others and late ones. The zero value is ready.
type RTUReader struct {
	buf  []byte
	done int
	// Garbage counts the bytes that belonged to no answer that was waited for.
	Garbage uint64
}

// Feed takes what was read from the line. It copies b, and ends the life of what
// Next has returned.
func (r *RTUReader) Feed(b []byte) {
	r.buf = append(r.buf[:copy(r.buf, r.buf[r.done:])], b...)
	r.done = 0
	if extra := len(r.buf) - maxPending; extra > 0 {
		r.drop(extra)
	}
}

// Next returns the PDU of the answer of unit to request, or false if it is not
// there yet. Bytes that can't be its beginning are dropped. The body is valid
// until Feed.
//
// A byte of noise may look like the beginning of the answer and claim bytes of the
// real one: so each place where an answer could begin is tried, and the first
// with a good CRC wins.
func (r *RTUReader) Next(unit byte, request pdu.Request) (body []byte, ok bool) {
	r.drop(r.done)
	r.done = 0
	first := -1 // where an answer may begin that is not whole
	for i, b := range r.buf {
		if b != unit {
			continue
		}
		n := request.Size(r.buf[i+1:])
		end := i + 1 + n + crcSize
		switch {
		case n < 0:
		case n == 0 || end > len(r.buf):
			if first < 0 {
				first = i
			}
		case crc(r.buf[i:end-crcSize]) == binary.LittleEndian.Uint16(r.buf[end-crcSize:]):
			r.Garbage += uint64(i)
			r.done = end
			return r.buf[i+1 : end-crcSize], true
		}
	}
	if first < 0 {
		first = len(r.buf)
	}
	r.Garbage += uint64(first)
	r.buf = r.buf[:copy(r.buf, r.buf[first:])]
	return nil, false
}

// Pending returns how many bytes wait for the rest of an answer.
func (r *RTUReader) Pending() int { return len(r.buf) - r.done }

// Reset forgets what is pending: the line was silent, or the request is another.
func (r *RTUReader) Reset() {
	r.Garbage += uint64(r.Pending())
	r.buf, r.done = r.buf[:0], 0
}

// drop removes the first n bytes; those not yet returned are garbage.
func (r *RTUReader) drop(n int) {
	r.Garbage += uint64(max(0, n-r.done))
	r.buf = r.buf[:copy(r.buf, r.buf[n:])]
	r.done = max(0, r.done-n)
}
