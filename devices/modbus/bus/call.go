package bus

import (
	"bytes"
	"context"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

// Priority is the order in which waiting calls are served.
type Priority int

// The priorities, the first first.
const (
	Control Priority = iota // writes and live reads
	Poll
	priorities
)

// Call is one request to one unit.
type Call struct {
	Unit     byte
	Request  pdu.Request
	Priority Priority
	// Timeout is how long the unit may take; 0 means that of Config.
	Timeout time.Duration
	// Pause is how long the unit is left alone after this call.
	Pause time.Duration
	// Done is called once, from the goroutine of Run: it must not block. data is what
	// pdu.Request.Check returned and is valid during the call only; took is the time
	// from the first byte sent to the answer, 0 if none came.
	Done func(data []byte, took time.Duration, err error)
}

// call is a Call in the bus.
type call struct {
	Call
	gone    atomic.Bool // nobody waits for it any more
	tries   int
	passed  int // answers to younger calls since it was sent
	sent    time.Time
	expires time.Time
	tag     uint16
	// fenced is the call that is sent when this one, a fence, was answered.
	fenced *call
}

// Do makes a call and waits for its end, or that of ctx. The data is the caller's.
// Call.Done is not used.
func (b *Bus) Do(ctx context.Context, in Call) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	in.Done = func(data []byte, _ time.Duration, err error) {
		done <- result{bytes.Clone(data), err}
	}
	c := b.submit(in)
	select {
	case r := <-done:
		return r.data, r.err
	case <-ctx.Done():
		c.gone.Store(true)
		return nil, ctx.Err()
	}
}

// Go makes a call and returns at once; Call.Done gets the result, perhaps before
// Go returns.
func (b *Bus) Go(c Call) { b.submit(c) }

// submit queues a call for the owner.
func (b *Bus) submit(c Call) *call {
	if c.Timeout <= 0 {
		c.Timeout = b.cfg.Timeout
	}
	in := &call{Call: c}
	b.mu.Lock()
	err := b.down
	if err == nil && len(b.inbox) >= maxInbox {
		err = ErrQueueFull
	}
	if err == nil {
		b.inbox = append(b.inbox, in)
	}
	b.mu.Unlock()
	if err != nil {
		c.Done(nil, 0, err)
		return in
	}
	select {
	case b.bell <- struct{}{}:
	default:
	}
	return in
}
