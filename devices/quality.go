package devices

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Quality is a StatusCode of OPC UA (Part 4, 7.39), for all protocols: the top
// two bits are 00 for good, 01 for uncertain, 10 for bad.
type Quality uint32

// The qualities that drivers share. Others are OPC UA servers' own.
const (
	Good                     Quality = 0
	UncertainLastUsable      Quality = 0x40900000
	BadInternalError         Quality = 0x80020000
	BadTimeout               Quality = 0x800A0000
	BadNoCommunication       Quality = 0x80310000
	BadWaitingForInitialData Quality = 0x80320000
	BadNodeIDUnknown         Quality = 0x80340000
	BadNotReadable           Quality = 0x803A0000
	BadNotWritable           Quality = 0x803B0000
	BadOutOfRange            Quality = 0x803C0000
	BadNotSupported          Quality = 0x803D0000
	BadTypeMismatch          Quality = 0x80740000
	BadConfiguration         Quality = 0x80890000
	BadNotConnected          Quality = 0x808A0000
	BadDeviceFailure         Quality = 0x808B0000
	BadSensorFailure         Quality = 0x808C0000
	BadOutOfService          Quality = 0x808D0000
	BadNoData                Quality = 0x809B0000
)

// codeMask leaves out a StatusCode's info bits, such as that of an overflow.
const codeMask = 0xFFFF0000

// IsGood reports whether the value can be used.
func (q Quality) IsGood() bool { return q>>30 == 0 }

// IsUncertain reports whether the value may be used with care.
func (q Quality) IsUncertain() bool { return q>>30 == 1 }

// IsBad reports whether there is no value to use.
func (q Quality) IsBad() bool { return q>>30 >= 2 }

// String is the name that the specification gives, without info bits. Codes
// that no driver shares are hexadecimal: 0x80AB0000.
func (q Quality) String() string {
	if name, ok := name(q & codeMask); ok {
		return name
	}
	return fmt.Sprintf("0x%08X", uint32(q))
}

// ParseQuality is the reverse of String.
func ParseQuality(s string) (Quality, error) {
	for _, q := range qualities() {
		if n, _ := name(q); n == s {
			return q, nil
		}
	}
	if hex, ok := strings.CutPrefix(s, "0x"); ok {
		if n, err := strconv.ParseUint(hex, 16, 32); err == nil {
			return Quality(n), nil
		}
	}
	return 0, fmt.Errorf("%q is neither the name of a quality nor 0x and eight hexadecimal digits", s)
}

func qualities() []Quality {
	return []Quality{
		Good, UncertainLastUsable, BadInternalError, BadTimeout, BadNoCommunication, BadWaitingForInitialData,
		BadNodeIDUnknown, BadNotReadable, BadNotWritable, BadOutOfRange, BadNotSupported, BadTypeMismatch,
		BadConfiguration, BadNotConnected, BadDeviceFailure, BadSensorFailure, BadOutOfService, BadNoData,
	}
}

func name(q Quality) (string, bool) {
	switch q {
	case Good:
		return "Good", true
	case UncertainLastUsable:
		return "UncertainLastUsableValue", true
	case BadInternalError:
		return "BadInternalError", true
	case BadTimeout:
		return "BadTimeout", true
	case BadNoCommunication:
		return "BadNoCommunication", true
	case BadWaitingForInitialData:
		return "BadWaitingForInitialData", true
	case BadNodeIDUnknown:
		return "BadNodeIdUnknown", true
	case BadNotReadable:
		return "BadNotReadable", true
	case BadNotWritable:
		return "BadNotWritable", true
	case BadOutOfRange:
		return "BadOutOfRange", true
	case BadNotSupported:
		return "BadNotSupported", true
	case BadTypeMismatch:
		return "BadTypeMismatch", true
	case BadConfiguration:
		return "BadConfigurationError", true
	case BadNotConnected:
		return "BadNotConnected", true
	case BadDeviceFailure:
		return "BadDeviceFailure", true
	case BadSensorFailure:
		return "BadSensorFailure", true
	case BadOutOfService:
		return "BadOutOfService", true
	case BadNoData:
		return "BadNoData", true
	}
	return "", false
}

// QualityError is a refusal by a device or a driver, with its code.
type QualityError struct {
	Quality Quality
	// Reason is for people: what was refused, and what would be taken.
	Reason string
}

// Error is the quality's name and the reason.
func (e *QualityError) Error() string {
	if e.Reason == "" {
		return e.Quality.String()
	}
	return e.Quality.String() + ": " + e.Reason
}

// QualityOf returns the quality that stands for an error: a QualityError's own,
// BadNotConnected, or BadInternalError.
func QualityOf(err error) Quality {
	var q *QualityError
	switch {
	case err == nil:
		return Good
	case errors.As(err, &q):
		return q.Quality
	case errors.Is(err, ErrNotConnected):
		return BadNotConnected
	}
	return BadInternalError
}
