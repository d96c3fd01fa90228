package pdu

import "fmt"

// Function is a function code.
type Function byte

// The function codes that Skerry speaks.
const (
	ReadCoils                  Function = 1
	ReadDiscreteInputs         Function = 2
	ReadHoldingRegisters       Function = 3
	ReadInputRegisters         Function = 4
	WriteSingleCoil            Function = 5
	WriteSingleRegister        Function = 6
	WriteMultipleCoils         Function = 15
	WriteMultipleRegisters     Function = 16
	MaskWriteRegister          Function = 22
	ReadWriteMultipleRegisters Function = 23
	EncapsulatedInterface      Function = 43 // with MEI type 14: read device identification
)

// failed is added to the function code of an exception.
const failed = 0x80

// Limits of the specification, in PDU bytes and in elements of one request.
const (
	MaxSize               = 253
	MaxReadBits           = 2000
	MaxReadRegisters      = 125
	MaxWriteBits          = 1968
	MaxWriteRegisters     = 123
	MaxReadWriteRegisters = 121 // written by ReadWriteMultipleRegisters, which reads up to 125
)

// String returns the name of the specification.
func (f Function) String() string {
	switch f {
	case ReadCoils:
		return "read coils"
	case ReadDiscreteInputs:
		return "read discrete inputs"
	case ReadHoldingRegisters:
		return "read holding registers"
	case ReadInputRegisters:
		return "read input registers"
	case WriteSingleCoil:
		return "write single coil"
	case WriteSingleRegister:
		return "write single register"
	case WriteMultipleCoils:
		return "write multiple coils"
	case WriteMultipleRegisters:
		return "write multiple registers"
	case MaskWriteRegister:
		return "mask write register"
	case ReadWriteMultipleRegisters:
		return "read/write multiple registers"
	case EncapsulatedInterface:
		return "read device identification"
	default:
		return fmt.Sprintf("function %d", byte(f))
	}
}

// Bits reports whether f reads or writes bits.
func (f Function) Bits() bool {
	return f == ReadCoils || f == ReadDiscreteInputs || f == WriteSingleCoil || f == WriteMultipleCoils
}

// Writes reports whether f changes the device.
func (f Function) Writes() bool {
	switch f {
	case WriteSingleCoil, WriteSingleRegister, WriteMultipleCoils, WriteMultipleRegisters, MaskWriteRegister, ReadWriteMultipleRegisters:
		return true
	default:
		return false
	}
}

// maxRead is the most elements that f reads at once, 0 if it is not a plain read.
func (f Function) maxRead() int {
	switch f {
	case ReadCoils, ReadDiscreteInputs:
		return MaxReadBits
	case ReadHoldingRegisters, ReadInputRegisters:
		return MaxReadRegisters
	default:
		return 0
	}
}
