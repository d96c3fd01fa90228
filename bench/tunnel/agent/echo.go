package agent

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"

	"github.com/skerry-io/skerry/bench/tunnel/system"
	"github.com/skerry-io/skerry/bench/tunnel/trace"
)

// conversation is an echo stream that is opened again when it breaks.
type conversation struct {
	keeper *system.Keeper

	mu      sync.Mutex // guards the following fields
	stream  net.Conn   // nil while there is none
	samples []trace.Sample
}

// run opens streams and takes their answers until ctx ends.
func (c *conversation) run(ctx context.Context) {
	for {
		conn, err := c.keeper.Open(ctx, system.Interactive)
		if err != nil {
			return
		}
		if _, err := conn.Write([]byte{system.Echo}); err == nil {
			c.use(conn)
			c.take(conn)
			c.use(nil)
		}
		go func() { _ = conn.Close() }() // on a line that stands still it may wait for ever
		select {
		case <-time.After(20 * time.Millisecond): // whatever broke the stream breaks the session next
		case <-ctx.Done():
			return
		}
	}
}

func (c *conversation) use(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream = conn
}

// take notes answers until the stream breaks.
func (c *conversation) take(conn io.Reader) {
	var b [messageSize]byte
	for {
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return
		}
		now := time.Now()
		c.mu.Lock()
		if i := binary.BigEndian.Uint64(b[:]); i < uint64(len(c.samples)) {
			c.samples[i].Back = now
		}
		c.mu.Unlock()
	}
}

// send sends the next message, due at a time. While there is no stream it is
// lost, as a key pressed on a dead terminal is.
func (c *conversation) send(due time.Time) {
	var b [messageSize]byte
	c.mu.Lock()
	binary.BigEndian.PutUint64(b[:], uint64(len(c.samples)))
	c.samples = append(c.samples, trace.Sample{Sent: due})
	conn := c.stream
	c.mu.Unlock()
	if conn != nil {
		_, _ = conn.Write(b[:]) // what breaks the stream is seen by take
	}
}

// result is what was seen so far.
func (c *conversation) result() trace.Trace {
	c.mu.Lock()
	defer c.mu.Unlock()
	return trace.Trace{Samples: append([]trace.Sample(nil), c.samples...), End: time.Now()}
}

// answered reports whether every message has its answer.
func (c *conversation) answered() bool {
	for _, s := range c.result().Samples {
		if s.Back.IsZero() {
			return false
		}
	}
	return true
}

// echo carries out a plan. A write on a line that stands still waits, and the
// watch below ends the plan all the same.
func (a *agent) echo(ctx context.Context, p EchoPlan) trace.Trace {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &conversation{keeper: a.keeper}
	go c.run(ctx)
	go func() {
		for due := p.Start; due.Before(p.End); due = due.Add(p.Every) {
			select {
			case <-time.After(time.Until(due)):
				c.send(due)
			case <-ctx.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return c.result()
		case now := <-tick.C:
			if p.Settle > 0 {
				at, ok := c.result().Resumed(p.Event)
				if ok && now.Sub(at) >= p.Settle {
					return c.result()
				}
			}
			if now.After(p.End.Add(p.Drain)) || now.After(p.End) && c.answered() {
				return c.result()
			}
		}
	}
}

// ask sends one message, and again on the next stream when one breaks.
func (a *agent) ask(ctx context.Context, p AskPlan) trace.Sample {
	ctx, cancel := context.WithTimeout(ctx, time.Until(p.At)+p.Timeout)
	defer cancel()
	back := make(chan time.Time, 1)
	go func() {
		for ctx.Err() == nil {
			conn, err := a.keeper.Open(ctx, system.Interactive)
			if err != nil {
				return
			}
			select {
			case <-time.After(time.Until(p.At)):
			case <-ctx.Done():
			}
			if err := exchange(conn); err == nil {
				back <- time.Now()
				return
			}
			go func() { _ = conn.Close() }()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	sample := trace.Sample{Sent: p.At}
	select {
	case sample.Back = <-back:
	case <-ctx.Done():
	}
	return sample
}

// exchange sends a message on a new stream and waits for its answer.
func exchange(conn net.Conn) error {
	b := make([]byte, 1+messageSize)
	b[0] = system.Echo
	if _, err := conn.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, b[1:])
	return err
}
