package pdu

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is the reason why bytes are not a request.
var ErrMalformed = errors.New("malformed request")

// Request is the PDU of a request, within the bounds of the specification.
type Request []byte

// Read makes a request for count coils, inputs or registers from address on. fn
// is one of the four plain reads.
func Read(fn Function, address uint16, count int) (Request, error) {
	limit := fn.maxRead()
	if limit == 0 {
		return nil, fmt.Errorf("%v is not a plain read", fn)
	}
	if err := span(address, count, limit); err != nil {
		return nil, fmt.Errorf("%v: %w", fn, err)
	}
	return words(fn, address, uint16(count)), nil
}

// WriteCoil makes a request that switches one coil.
func WriteCoil(address uint16, on bool) Request {
	if on {
		return words(WriteSingleCoil, address, coilOn)
	}
	return words(WriteSingleCoil, address, 0)
}

// WriteRegister makes a request that sets one holding register.
func WriteRegister(address, value uint16) Request { return words(WriteSingleRegister, address, value) }

// WriteCoils makes a request that switches 1 to 1,968 coils from address on.
func WriteCoils(address uint16, bits []bool) (Request, error) {
	if err := span(address, len(bits), MaxWriteBits); err != nil {
		return nil, fmt.Errorf("%v: %w", WriteMultipleCoils, err)
	}
	n := (len(bits) + 7) / 8
	r := append(words(WriteMultipleCoils, address, uint16(len(bits))), byte(n))
	r = append(r, make([]byte, n)...)
	for i, on := range bits {
		if on {
			r[6+i/8] |= 1 << (i % 8)
		}
	}
	return r, nil
}

// WriteRegisters makes a request that sets 1 to 123 holding registers from
// address on; data holds two bytes per register.
func WriteRegisters(address uint16, data []byte) (Request, error) {
	if err := registers(address, data, MaxWriteRegisters); err != nil {
		return nil, fmt.Errorf("%v: %w", WriteMultipleRegisters, err)
	}
	r := append(words(WriteMultipleRegisters, address, uint16(len(data)/2)), byte(len(data)))
	return append(r, data...), nil
}

// MaskWrite makes a request that sets a holding register to (old AND and) OR (or
// AND NOT and), in one step in the device.
func MaskWrite(address, and, or uint16) Request { return words(MaskWriteRegister, address, and, or) }

// ReadWrite makes a request that first sets 1 to 121 holding registers from
// writeAddress on, then reads readCount from readAddress on.
func ReadWrite(readAddress uint16, readCount int, writeAddress uint16, data []byte) (Request, error) {
	err := span(readAddress, readCount, MaxReadRegisters)
	if err == nil {
		err = registers(writeAddress, data, MaxReadWriteRegisters)
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", ReadWriteMultipleRegisters, err)
	}
	r := words(ReadWriteMultipleRegisters, readAddress, uint16(readCount), writeAddress, uint16(len(data)/2))
	return append(append(r, byte(len(data))), data...), nil
}

const coilOn = 0xFF00

// ParseRequest checks b, which is used, not copied.
func ParseRequest(b []byte) (Request, error) {
	if len(b) == 0 || len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	r := Request(b)
	var want int // length
	var err error
	switch fn := r.Function(); fn {
	case ReadCoils, ReadDiscreteInputs, ReadHoldingRegisters, ReadInputRegisters:
		if want = 5; len(b) == want {
			err = span(r.Address(), r.Count(), fn.maxRead())
		}
	case WriteSingleCoil:
		if want = 5; len(b) == want && r.word(3) != 0 && r.word(3) != coilOn {
			err = fmt.Errorf("coil set to %#04x", r.word(3))
		}
	case WriteSingleRegister:
		want = 5
	case WriteMultipleCoils, WriteMultipleRegisters:
		if want = 6; len(b) >= 6 {
			size, limit := (r.Count()+7)/8, MaxWriteBits
			if fn == WriteMultipleRegisters {
				size, limit = 2*r.Count(), MaxWriteRegisters
			}
			want = 6 + size
			err = counted(r, 5, size, r.Address(), r.Count(), limit)
		}
	case MaskWriteRegister:
		want = 7
	case ReadWriteMultipleRegisters:
		if want = 10; len(b) >= 10 {
			n := int(r.word(7))
			want = 10 + 2*n
			err = errors.Join(span(r.Address(), r.Count(), MaxReadRegisters), counted(r, 9, 2*n, r.word(5), n, MaxReadWriteRegisters))
		}
	case EncapsulatedInterface:
		if want = 4; len(b) == want && (b[1] != meiIdentification || b[2] < byte(Basic) || b[2] > byte(Individual)) {
			err = fmt.Errorf("MEI type %d, code %d", b[1], b[2])
		}
	default:
		return nil, fmt.Errorf("%w: %v is unknown", ErrMalformed, fn)
	}
	if err == nil && len(b) != want {
		err = fmt.Errorf("%d bytes, want %d", len(b), want)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrMalformed, r.Function(), err)
	}
	return r, nil
}

// Function returns the function code.
func (r Request) Function() Function { return Function(r[0]) }

// Address returns the first address that is read, or written where nothing is
// read; 0 for an identification.
func (r Request) Address() uint16 {
	if r.Function() == EncapsulatedInterface {
		return 0
	}
	return r.word(1)
}

// Count returns how many elements are read, or written where nothing is read; 0
// for an identification.
func (r Request) Count() int {
	switch r.Function() {
	case WriteSingleCoil, WriteSingleRegister, MaskWriteRegister:
		return 1
	case EncapsulatedInterface:
		return 0
	default:
		return int(r.word(3))
	}
}

func (r Request) word(at int) uint16 { return binary.BigEndian.Uint16(r[at:]) }

// words makes a PDU of a function code and 16 bit words, with room for data.
func words(fn Function, w ...uint16) Request {
	r := append(make(Request, 0, 2*len(w)+2), byte(fn))
	for _, v := range w {
		r = binary.BigEndian.AppendUint16(r, v)
	}
	return r
}

// span checks that a device can have count elements from address on.
func span(address uint16, count, limit int) error {
	if count < 1 || count > limit {
		return fmt.Errorf("%d elements, may be 1 to %d", count, limit)
	}
	if int(address)+count > 1<<16 {
		return fmt.Errorf("%d elements from address %d on end past 65535", count, address)
	}
	return nil
}

func registers(address uint16, data []byte, limit int) error {
	if len(data)%2 != 0 {
		return fmt.Errorf("%d bytes are no whole registers", len(data))
	}
	return span(address, len(data)/2, limit)
}

// counted checks the span of a write and the byte count at r[at].
func counted(r Request, at, size int, address uint16, count, limit int) error {
	if int(r[at]) != size {
		return fmt.Errorf("byte count %d for %d elements", r[at], count)
	}
	return span(address, count, limit)
}
