package bus

import (
	"errors"
	"fmt"
	"time"
)

// Why a call has no answer. A device that refuses gives a *pdu.Exception instead.
var (
	ErrNotConnected = errors.New("not connected")
	ErrTimeout      = errors.New("no answer in time")
	ErrDamaged      = errors.New("the answer was damaged")
	ErrProtocol     = errors.New("the answer breaks the protocol")
	ErrQueueFull    = errors.New("too many requests wait for this unit")
)

// DemotedError says that a unit has not answered lately and is left alone until
// the bus tries it again.
type DemotedError struct {
	Unit  byte
	Until time.Time
	Cause error // of the last attempt
}

// Error implements error.
func (e *DemotedError) Error() string {
	return fmt.Sprintf("unit %d does not answer (%v); next attempt at %s", e.Unit, e.Cause, e.Until.UTC().Format(time.RFC3339))
}

// Unwrap returns the cause.
func (e *DemotedError) Unwrap() error { return e.Cause }

// notConnected is an ErrNotConnected with the reason.
type notConnected struct{ cause error }

func (e *notConnected) Error() string   { return "not connected: " + e.cause.Error() }
func (e *notConnected) Unwrap() []error { return []error{ErrNotConnected, e.cause} }
