package pdu

import "fmt"

// Code is the code of an exception (section 7).
type Code byte

// The codes of the specification.
const (
	IllegalFunction     Code = 1
	IllegalDataAddress  Code = 2
	IllegalDataValue    Code = 3
	DeviceFailure       Code = 4
	Acknowledge         Code = 5
	DeviceBusy          Code = 6
	NegativeAcknowledge Code = 7
	MemoryParity        Code = 8
	GatewayPath         Code = 10
	GatewayTarget       Code = 11
)

// String returns the name of the specification.
func (c Code) String() string {
	switch c {
	case IllegalFunction:
		return "illegal function"
	case IllegalDataAddress:
		return "illegal data address"
	case IllegalDataValue:
		return "illegal data value"
	case DeviceFailure:
		return "device failure"
	case Acknowledge:
		return "acknowledged, not yet done"
	case DeviceBusy:
		return "device busy"
	case NegativeAcknowledge:
		return "negative acknowledge"
	case MemoryParity:
		return "memory parity error"
	case GatewayPath:
		return "gateway path unavailable"
	case GatewayTarget:
		return "gateway target failed to respond"
	default:
		return fmt.Sprintf("exception %d", byte(c))
	}
}

// Exception is a device's refusal of a request.
type Exception struct {
	Function Function // of the request
	Code     Code
}

// Error implements error.
func (e *Exception) Error() string { return e.Function.String() + ": " + e.Code.String() }

// Is compares function and code. A target with Function 0 stands for any.
func (e *Exception) Is(target error) bool {
	t, ok := target.(*Exception)
	return ok && t.Code == e.Code && (t.Function == 0 || t.Function == e.Function)
}

// Append adds the exception's PDU to b.
func (e *Exception) Append(b []byte) []byte {
	return append(b, byte(e.Function)|failed, byte(e.Code))
}
