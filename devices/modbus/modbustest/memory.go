package modbustest

import (
	"encoding/binary"

	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

// Memory is what a unit holds. Its methods may be called from anywhere.
type Memory struct {
	coils, inputs  map[int]bool
	holding, input map[int]uint16
	holes          []hole
	lacks          map[pdu.Function]bool
	limit          int // registers of one request, 0 is the specification's
}

type hole struct {
	fn       pdu.Function
	from, to int // to is outside
}

func newMemory() *Memory {
	return &Memory{coils: map[int]bool{}, inputs: map[int]bool{}, holding: map[int]uint16{}, input: map[int]uint16{}, lacks: map[pdu.Function]bool{}}
}

// answer returns the PDU of the answer to r.
func (m *Memory) answer(r pdu.Request) []byte {
	fn, from := r.Function(), int(r.Address())
	to := from + r.Count()
	for _, h := range m.holes {
		if h.fn == fn && from < h.to && h.from < to {
			return (&pdu.Exception{Function: fn, Code: pdu.IllegalDataAddress}).Append(nil)
		}
	}
	if m.lacks[fn] {
		return (&pdu.Exception{Function: fn, Code: pdu.IllegalFunction}).Append(nil)
	}
	if m.limit > 0 && !fn.Bits() && r.Count() > m.limit {
		return (&pdu.Exception{Function: fn, Code: pdu.IllegalDataValue}).Append(nil)
	}
	switch fn {
	case pdu.ReadCoils:
		return bits(fn, m.coils, from, to)
	case pdu.ReadDiscreteInputs:
		return bits(fn, m.inputs, from, to)
	case pdu.ReadHoldingRegisters:
		return registers(fn, m.holding, from, to)
	case pdu.ReadInputRegisters:
		return registers(fn, m.input, from, to)
	case pdu.WriteSingleCoil:
		m.coils[from] = r[3] == 0xFF
		return r
	case pdu.WriteSingleRegister:
		m.holding[from] = binary.BigEndian.Uint16(r[3:])
		return r
	case pdu.WriteMultipleCoils:
		for i := range r.Count() {
			m.coils[from+i] = r[6+i/8]>>(i%8)&1 == 1
		}
		return r[:5]
	case pdu.WriteMultipleRegisters:
		m.set(from, r[6:])
		return r[:5]
	case pdu.MaskWriteRegister:
		and, or := binary.BigEndian.Uint16(r[3:]), binary.BigEndian.Uint16(r[5:])
		m.holding[from] = m.holding[from]&and | or&^and
		return r
	case pdu.ReadWriteMultipleRegisters:
		m.set(int(binary.BigEndian.Uint16(r[5:])), r[10:])
		return registers(fn, m.holding, from, to)
	default:
		return (&pdu.Exception{Function: fn, Code: pdu.IllegalFunction}).Append(nil)
	}
}

func (m *Memory) set(at int, data []byte) {
	for i := 0; i < len(data); i += 2 {
		m.holding[at+i/2] = binary.BigEndian.Uint16(data[i:])
	}
}

func bits(fn pdu.Function, m map[int]bool, from, to int) []byte {
	b := make([]byte, 2+(to-from+7)/8)
	b[0], b[1] = byte(fn), byte(len(b)-2)
	for i := from; i < to; i++ {
		if m[i] {
			b[2+(i-from)/8] |= 1 << ((i - from) % 8)
		}
	}
	return b
}

func registers(fn pdu.Function, m map[int]uint16, from, to int) []byte {
	b := []byte{byte(fn), byte(2 * (to - from))}
	for i := from; i < to; i++ {
		b = binary.BigEndian.AppendUint16(b, m[i])
	}
	return b
}
