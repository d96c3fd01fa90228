package pdu

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrMismatch is the reason why bytes can't be the answer to a request.
var ErrMismatch = errors.New("not an answer to this request")

// Check reads b as the answer to r. It returns what was read: two bytes per
// register, a bit per coil from the lowest of the first byte on, all of it after
// the function code for an identification; nil for a write. An answer
// that refuses is an *Exception, one that r can't have an ErrMismatch. The result
// is a part of b.
func (r Request) Check(b []byte) (data []byte, err error) {
	if len(b) < 2 || len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrMismatch, len(b))
	}
	fn := r.Function()
	if Function(b[0]) == fn|failed {
		if len(b) != 2 || b[1] == 0 {
			return nil, fmt.Errorf("%w: exception of %d bytes, code %d", ErrMismatch, len(b), b[1])
		}
		return nil, &Exception{Function: fn, Code: Code(b[1])}
	}
	if Function(b[0]) != fn {
		return nil, fmt.Errorf("%w: %v answered with %v", ErrMismatch, fn, Function(b[0]))
	}
	n := r.Size(b)
	if n == 0 || n != len(b) {
		return nil, fmt.Errorf("%w: %v answered with %d bytes", ErrMismatch, fn, len(b))
	}
	switch fn {
	case WriteSingleCoil, WriteSingleRegister, MaskWriteRegister:
		if !bytes.Equal(r, b) {
			return nil, fmt.Errorf("%w: %v answered with another address or value", ErrMismatch, fn)
		}
		return nil, nil
	case WriteMultipleCoils, WriteMultipleRegisters:
		if !bytes.Equal(r[:5], b) {
			return nil, fmt.Errorf("%w: %v answered with another address or count", ErrMismatch, fn)
		}
		return nil, nil
	case EncapsulatedInterface:
		if b[1] != meiIdentification {
			return nil, fmt.Errorf("%w: MEI type %d", ErrMismatch, b[1])
		}
		return b[1:], nil
	default:
		if int(b[1]) != len(b)-2 {
			return nil, fmt.Errorf("%w: byte count %d in %d bytes", ErrMismatch, b[1], len(b))
		}
		return b[2:], nil
	}
}

// Size returns how long the answer is that begins with b, 0 if b is too short to
// tell, and -1 if no answer to r begins so. Frames without a length (RTU) are cut
// by it.
func (r Request) Size(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	switch Function(b[0]) {
	case r.Function() | failed:
		return 2
	case r.Function():
	default:
		return -1
	}
	want := 0
	switch r.Function() {
	case ReadCoils, ReadDiscreteInputs:
		want = (r.Count() + 7) / 8
	case ReadHoldingRegisters, ReadInputRegisters, ReadWriteMultipleRegisters:
		want = 2 * r.Count()
	case MaskWriteRegister:
		return 7
	case EncapsulatedInterface:
		return identificationSize(b)
	default:
		return 5
	}
	if len(b) > 1 && int(b[1]) != want {
		return -1
	}
	return 2 + want
}

// MaxAnswer returns the length of the longest answer to r.
func (r Request) MaxAnswer() int {
	if r.Function() == EncapsulatedInterface {
		return MaxSize
	}
	return r.Size([]byte{byte(r.Function())})
}
