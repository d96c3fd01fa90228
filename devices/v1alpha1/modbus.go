package v1alpha1

// Modbus is a slave and how to reach it. Devices with the same line or address
// share it: their requests go one after the other.
//
// +kubebuilder:validation:XValidation:rule="[has(self.tcp), has(self.rtu), has(self.rtuOverTCP)].filter(b, b).size() == 1",message="modbus needs exactly one of tcp, rtu and rtuOverTCP"
type Modbus struct {
	// TCP is Modbus TCP (MBAP).
	//
	// +optional
	TCP *ModbusTCP `json:"tcp,omitempty"`
	// RTU is a serial line of the edge.
	//
	// +optional
	RTU *ModbusRTU `json:"rtu,omitempty"`
	// RTUOverTCP is a serial line behind a server that passes bytes on.
	//
	// +optional
	RTUOverTCP *ModbusTCP `json:"rtuOverTCP,omitempty"`
	// UnitID is the slave's address: 1 to 247, and 0 or 255 where a device with
	// TCP asks for it.
	//
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=255
	UnitID int32 `json:"unitId"`
	// PollInterval is how often values are read, 1s by default.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= duration('1ms') && self <= duration('24h')",message="pollInterval must be from 1ms to 24h"
	PollInterval *Duration `json:"pollInterval,omitempty"`
	// Timeout is how long to wait for an answer, 1s by default.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= duration('10ms') && self <= duration('1m')",message="timeout must be from 10ms to 1m"
	Timeout *Duration `json:"timeout,omitempty"`
	// Pause is how long the slave is left alone after an answer, for devices
	// that need it.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self <= duration('10s')",message="pause must not be above 10s"
	Pause *Duration `json:"pause,omitempty"`
	// MaxRegisters is how many registers one request may ask for, 125 by
	// default.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=125
	MaxRegisters int32 `json:"maxRegisters,omitempty"`
	// MaxBits is how many coils or discrete inputs one request may ask for,
	// 2000 by default.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2000
	MaxBits int32 `json:"maxBits,omitempty"`
}

// ModbusTCP is an address.
type ModbusTCP struct {
	// Address is HOST:PORT; the port of Modbus is 502.
	//
	// +kubebuilder:validation:MaxLength=300
	// +kubebuilder:validation:XValidation:rule="self.matches('^([[][^]]+[]]|[^:/ ]+):[0-9]{1,5}$')",message="address must be HOST:PORT, an IPv6 address in brackets"
	Address string `json:"address"`
}

// Parity of a serial line.
//
// +kubebuilder:validation:Enum=None;Even;Odd
type Parity string

// The parities.
const (
	ParityNone Parity = "None"
	ParityEven Parity = "Even"
	ParityOdd  Parity = "Odd"
)

// ModbusRTU is a serial line.
type ModbusRTU struct {
	// Device is the file of the line, such as /dev/ttyUSB0 or
	// /dev/serial/by-id/NAME.
	//
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="self.startsWith('/dev/') && !self.contains('..')",message="device must be a file below /dev"
	Device string `json:"device"`
	// BaudRate is in bits per second.
	//
	// +optional
	// +kubebuilder:default=9600
	// +kubebuilder:validation:Enum=1200;2400;4800;9600;19200;38400;57600;115200;230400;460800;921600
	BaudRate int32 `json:"baudRate,omitempty"`
	// Parity is None, Even or Odd; the standard asks for Even.
	//
	// +optional
	// +kubebuilder:default=Even
	Parity Parity `json:"parity,omitempty"`
	// StopBits is 1 or 2; 0 is 1 with parity and 2 without, as the standard asks.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2
	StopBits int32 `json:"stopBits,omitempty"`
}

// ModbusTable is one of the four that a slave has.
//
// +kubebuilder:validation:Enum=coil;discrete;input;holding
type ModbusTable string

// The tables: bits that can be written and that can't, registers of 16 bits
// that can't be written and that can.
const (
	TableCoil     ModbusTable = "coil"
	TableDiscrete ModbusTable = "discrete"
	TableInput    ModbusTable = "input"
	TableHolding  ModbusTable = "holding"
)

// ModbusType is how a value lies in registers.
//
// +kubebuilder:validation:Enum=bool;int8;uint8;int16;uint16;int32;uint32;int64;uint64;float32;float64;bcd16;bcd32;string;bytes
type ModbusType string

// The types in registers. Int8 and uint8 are the low byte of one register.
const (
	ModbusBool    ModbusType = "bool"
	ModbusInt8    ModbusType = "int8"
	ModbusUint8   ModbusType = "uint8"
	ModbusInt16   ModbusType = "int16"
	ModbusUint16  ModbusType = "uint16"
	ModbusInt32   ModbusType = "int32"
	ModbusUint32  ModbusType = "uint32"
	ModbusInt64   ModbusType = "int64"
	ModbusUint64  ModbusType = "uint64"
	ModbusFloat32 ModbusType = "float32"
	ModbusFloat64 ModbusType = "float64"
	ModbusBCD16   ModbusType = "bcd16"
	ModbusBCD32   ModbusType = "bcd32"
	ModbusString  ModbusType = "string"
	ModbusBytes   ModbusType = "bytes"
)

// Order is that of the words of a value, or of the bytes of a word.
//
// +kubebuilder:validation:Enum=big;little
type Order string

// The orders: the most significant first, and last.
const (
	BigEndian    Order = "big"
	LittleEndian Order = "little"
)

// ModbusProperty is where a property is in a slave.
//
// +kubebuilder:validation:XValidation:rule="!(self.table in ['coil', 'discrete']) || (!has(self.type) || self.type == 'bool') && !has(self.bit) && !has(self.scale) && !has(self.offset)",message="tables coil and discrete hold bools: type must be bool, and bit, scale and offset have no meaning"
// +kubebuilder:validation:XValidation:rule="self.table in ['coil', 'discrete'] || has(self.type)",message="tables input and holding need type"
// +kubebuilder:validation:XValidation:rule="!(self.table in ['input', 'holding']) || !has(self.type) || (self.type == 'bool') == has(self.bit)",message="type bool in tables input and holding needs bit, other types have none"
// +kubebuilder:validation:XValidation:rule="!has(self.type) || (self.type in ['string', 'bytes']) == has(self.length)",message="types string and bytes need length, the number of registers; other types have none"
// +kubebuilder:validation:XValidation:rule="!has(self.scale) && !has(self.offset) || !has(self.type) || !(self.type in ['bool', 'string', 'bytes'])",message="scale and offset need a number type"
type ModbusProperty struct {
	// Table is coil, discrete, input or holding.
	Table ModbusTable `json:"table"`
	// Address is that of the first bit or register, counted from 0 as on the
	// wire: what manuals call 40001 is holding 0.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	Address int32 `json:"address"`
	// Type is how the value lies in registers; "" is bool, for the two tables
	// of bits.
	//
	// +optional
	Type ModbusType `json:"type,omitempty"`
	// WordOrder is that of a value's registers.
	//
	// +optional
	// +kubebuilder:default=big
	WordOrder Order `json:"wordOrder,omitempty"`
	// ByteOrder is that of a register's bytes; the standard's is big.
	//
	// +optional
	// +kubebuilder:default=big
	ByteOrder Order `json:"byteOrder,omitempty"`
	// Bit is the bit of a register that a bool is, 0 the least significant.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=15
	Bit *int32 `json:"bit,omitempty"`
	// Length is the number of registers of a string or of bytes.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=125
	Length int32 `json:"length,omitempty"`
	// Scale and Offset make the value: raw × scale + offset; nil is 1.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self != 0.0",message="scale must not be 0"
	Scale *float64 `json:"scale,omitempty"`
	// Offset is added after scaling; nil is 0.
	//
	// +optional
	Offset *float64 `json:"offset,omitempty"`
	// PollInterval is how often the value is read; nil is that of
	// spec.protocol.modbus.
	//
	// +optional
	PollInterval *Duration `json:"pollInterval,omitempty"`
}
