package devices

import (
	"errors"
	"time"
)

// MaxState bounds Batch.State, in bytes.
const MaxState = 64 << 10

// MaxBatch bounds the encoded size of a batch's samples and gaps, in bytes. A
// driver cuts what is larger, and gives the state with the last piece.
const MaxBatch = 4 << 20

// ErrBatchTooLarge is Deliver's error for a batch beyond MaxBatch or MaxState.
var ErrBatchTooLarge = errors.New("batch too large")

// Sample is a value of a property at a time.
type Sample struct {
	Property string
	// Value may be nil with a bad quality.
	Value   Value
	Quality Quality
	// Source is when the value came to be, by the device; zero is unknown.
	Source time.Time
	// Server is when it was read, by the server or by the edge; zero is unknown.
	Server time.Time
}

// Time is the source time, or else the server time.
func (s Sample) Time() time.Time {
	if s.Source.IsZero() {
		return s.Server
	}
	return s.Source
}

// Gap is a time of which values are known to be missing.
type Gap struct {
	// Property whose values are missing; "" is all of the device.
	Property string
	// From is the time of the last value before, To of the first after; zero is
	// unknown.
	From, To time.Time
	// Lost is the number of missing values, 0 when nobody knows.
	Lost uint64
	// Reason is one word in CamelCase, such as QueueOverflow or Outage.
	Reason string
}

// Batch is stored whole or not at all.
type Batch struct {
	// Samples are in the order in which the device gave them, for each property.
	Samples []Sample
	Gaps    []Gap
	// State, if not nil, replaces the driver's private state of this device,
	// with the samples in one synced write: after a crash both are there or
	// neither. What the device must still be asked for stands in it, so that
	// nothing is lost and nothing doubled. An empty one removes it.
	State []byte
}
