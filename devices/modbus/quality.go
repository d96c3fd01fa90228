package modbus

import (
	"context"
	"errors"
	"fmt"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/modbus/bus"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

// quality is what an error of a bus means for a value.
func quality(err error) devices.Quality {
	var e *pdu.Exception
	var q *devices.QualityError
	var demoted *bus.DemotedError
	switch {
	case err == nil:
		return devices.Good
	case errors.As(err, &q):
		return q.Quality
	case errors.As(err, &e):
		return exceptionQuality(e.Code)
	case errors.Is(err, bus.ErrNotConnected), errors.Is(err, devices.ErrNotConnected), errors.As(err, &demoted):
		return devices.BadNoCommunication
	case errors.Is(err, bus.ErrTimeout), errors.Is(err, bus.ErrQueueFull), errors.Is(err, context.DeadlineExceeded):
		return devices.BadTimeout
	case errors.Is(err, bus.ErrDamaged), errors.Is(err, bus.ErrProtocol):
		return devices.BadNoCommunication
	}
	return devices.BadInternalError
}

// exceptionQuality is what a device's refusal means.
func exceptionQuality(c pdu.Code) devices.Quality {
	switch c {
	case pdu.IllegalFunction:
		return devices.BadNotSupported
	case pdu.IllegalDataAddress, pdu.GatewayPath:
		return devices.BadConfiguration
	case pdu.IllegalDataValue:
		return devices.BadOutOfRange
	case pdu.DeviceBusy, pdu.Acknowledge, pdu.NegativeAcknowledge:
		return devices.BadOutOfService
	case pdu.GatewayTarget:
		return devices.BadNoCommunication
	default: // device failure, memory parity, and what vendors have made up
		return devices.BadDeviceFailure
	}
}

// refusal is an error of a bus for the caller of Read and Write.
func refusal(err error) error {
	var q *devices.QualityError
	switch {
	case err == nil || errors.As(err, &q) || errors.Is(err, devices.ErrUnknownProperty) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, bus.ErrNotConnected):
		return fmt.Errorf("%w: %w", devices.ErrNotConnected, err)
	}
	return &devices.QualityError{Quality: quality(err), Reason: err.Error()}
}
