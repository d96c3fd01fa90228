package frame

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

const mbapHeader = 7

// ErrOutOfStep says that a stream of MBAP frames can't be followed any more: the
// connection must be closed.
var ErrOutOfStep = errors.New("no MBAP frame where one must begin")

// MBAP is the header of a frame on TCP, without its length.
type MBAP struct {
	Transaction uint16
	Unit        byte
}

// Append adds h and a PDU of at most pdu.MaxSize bytes to b.
func (h MBAP) Append(b, body []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, h.Transaction)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)+1))
	return append(append(b, h.Unit), body...)
}

// MBAPReader cuts a stream into frames. The zero value is ready.
type MBAPReader struct {
	buf  []byte
	done int // bytes of buf that were returned
}

// Feed takes what was read from the stream. It copies b, and ends the life of
// what Next has returned.
func (r *MBAPReader) Feed(b []byte) {
	r.buf = append(r.buf[:copy(r.buf, r.buf[r.done:])], b...)
	r.done = 0
}

// Next returns the next whole frame, or false when it needs more bytes. The body
// is valid until Feed. After an ErrOutOfStep nothing more comes.
func (r *MBAPReader) Next() (h MBAP, body []byte, ok bool, err error) {
	b := r.buf[r.done:]
	if len(b) < mbapHeader {
		return MBAP{}, nil, false, nil
	}
	protocol, n := binary.BigEndian.Uint16(b[2:]), int(binary.BigEndian.Uint16(b[4:]))
	if protocol != 0 || n < 2 || n > pdu.MaxSize+1 {
		return MBAP{}, nil, false, fmt.Errorf("%w: protocol %d, length %d", ErrOutOfStep, protocol, n)
	}
	end := mbapHeader - 1 + n
	if len(b) < end {
		return MBAP{}, nil, false, nil
	}
	r.done += end
	return MBAP{Transaction: binary.BigEndian.Uint16(b), Unit: b[6]}, b[mbapHeader:end], true, nil
}
