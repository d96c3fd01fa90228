package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-io/skerry/devices/modbus/frame"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

// errSilent ends a connection over which nothing comes back.
var errSilent = errors.New("no unit answers any more")

// session is one connection's time, in the goroutine of Run.
type session struct {
	*Bus
	conn     Conn
	inFlight []*call // oldest first
	out      []byte
	writeBy  time.Time // deadline of conn

	tagged   tagged
	untagged untagged

	wake     time.Time // when a unit's pause ends
	heard    time.Time // when the last byte came
	counted  time.Time // when the last of silences happened
	silences int       // timeouts since then, those of one moment counted once
}

// serve answers calls over conn until it fails or ctx ends. It closes conn.
func (b *Bus) serve(ctx context.Context, conn Conn) error {
	chunks := make(chan []byte)
	taken := make(chan struct{})
	failed := make(chan error, 1)
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failed <- receive(conn, chunks, taken, stop)
	}()
	s := &session{Bus: b, conn: conn, heard: time.Now()}
	err := s.loop(ctx, chunks, taken, failed)
	close(stop)
	if e := conn.Close(); err == nil {
		err = e
	}
	<-ended
	s.window.failed(time.Now(), len(s.inFlight))
	for _, c := range s.inFlight {
		s.lose(c)
		c.end(nil, 0, &notConnected{err})
	}
	b.count.garbage.Add(s.untagged.reader.Garbage)
	return err
}

// receive hands what comes to the owner, one piece at a time.
func receive(conn Conn, chunks chan<- []byte, taken <-chan struct{}, stop <-chan struct{}) error {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			select {
			case chunks <- buf[:n]:
			case <-stop:
				return nil
			}
			select {
			case <-taken:
			case <-stop:
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) loop(ctx context.Context, chunks <-chan []byte, taken chan<- struct{}, failed <-chan error) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		s.enqueue(now)
		if err := s.expire(now); err != nil {
			return err
		}
		if err := s.send(now); err != nil {
			return err
		}
		timer.Reset(s.wait(now))
		select {
		case b := <-chunks:
			now = time.Now()
			err := s.receive(now, b)
			taken <- struct{}{}
			if err != nil {
				return err
			}
		case <-s.bell:
		case <-timer.C:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// enqueue sorts new calls to their units.
func (s *session) enqueue(now time.Time) {
	for _, c := range s.take() {
		u := s.units[c.Unit]
		if u == nil {
			u = &unit{id: c.Unit}
			s.units[c.Unit] = u
			s.order = append(s.order, u)
		}
		u.called = now
		q := &u.queue[c.Priority]
		switch {
		case u.demoted && now.Before(u.rest()):
			c.Done(nil, 0, &DemotedError{Unit: u.id, Until: u.rest(), Cause: u.cause})
		case len(*q) >= maxQueue:
			c.Done(nil, 0, ErrQueueFull)
		default:
			*q = append(*q, c)
		}
	}
}

// send puts as many calls on the wire as may be there.
func (s *session) send(now time.Time) error {
	s.wake = now.Add(time.Hour)
	for len(s.inFlight) < s.window.size {
		if s.cfg.RTU && s.busy(now) {
			return nil
		}
		c := s.pick(now)
		if c == nil {
			return nil
		}
		s.untagged.since = time.Time{}
		if err := s.transmit(now, c); err != nil {
			return err
		}
	}
	return nil
}

// busy reports whether the line must be silent for longer before a frame. Someone who
// talks all the time can't keep calls waiting beyond the timeout.
func (s *session) busy(now time.Time) bool {
	if !now.Before(s.untagged.free) || !s.waiting() {
		return now.Before(s.untagged.free)
	}
	if s.untagged.since.IsZero() {
		s.untagged.since = now
	}
	return now.Sub(s.untagged.since) < s.cfg.Timeout
}

// pick takes the next call from the queues: by priority, units in turn.
func (s *session) pick(now time.Time) *call {
	for p := range s.turn {
		for i := range s.order {
			at := (s.turn[p] + i) % len(s.order)
			u := s.order[at]
			u.clean(p)
			if len(u.queue[p]) == 0 || u.demoted && u.inFlight > 0 {
				continue
			}
			if now.Before(u.free) {
				s.wake = earlier(s.wake, u.free)
				continue
			}
			if u.queue[p][0].Pause > 0 && u.inFlight > 0 {
				continue
			}
			c := u.queue[p][0]
			if c.Request.Function().Writes() && len(s.inFlight) > 0 && !s.window.fixed {
				return nil // a peer that chokes must not choke on a write
			}
			u.queue[p] = slices.Delete(u.queue[p], 0, 1)
			s.turn[p] = at + 1
			return c
		}
	}
	return nil
}

// clean drops calls that nobody waits for.
func (u *unit) clean(p int) {
	for len(u.queue[p]) > 0 && u.queue[p][0].gone.Load() {
		u.queue[p] = slices.Delete(u.queue[p], 0, 1)
	}
}

// transmit sends a call, or its fence.
func (s *session) transmit(now time.Time, c *call) error {
	u := s.units[c.Unit]
	if s.cfg.RTU {
		if f := u.fence(c.Request); f != nil && c.Unit != 0 {
			c = &call{Call: Call{Unit: c.Unit, Request: f, Priority: c.Priority, Timeout: c.Timeout, Pause: c.Pause}, fenced: c}
		}
		s.untagged.reader.Reset()
		s.untagged.bytes = 0
		s.out = frame.AppendRTU(s.out[:0], c.Unit, c.Request)
	} else {
		c.tag = s.tagged.tag(now, s.inFlight)
		s.out = frame.MBAP{Transaction: c.tag, Unit: c.Unit}.Append(s.out[:0], c.Request)
	}
	c.sent = now
	c.expires = now.Add(u.deadline(c.Timeout) + s.exchange(c.Request))
	s.count.requests.Add(1)
	u.inFlight++
	s.inFlight = append(s.inFlight, c)
	err := s.extend(now.Add(s.cfg.Timeout + s.wire(len(s.out))))
	if err == nil {
		_, err = s.conn.Write(s.out)
	}
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if s.cfg.RTU && c.Unit == 0 { // nobody answers a broadcast
		s.remove(0)
		s.untagged.free = now.Add(s.wire(len(s.out)) + broadcast)
		c.end(nil, 0, nil)
	}
	return nil
}

// extend sets the deadline of writes to t or somewhat later: it costs as much as a
// tenth of a poll.
func (s *session) extend(t time.Time) error {
	if !t.After(s.writeBy) {
		return nil
	}
	s.writeBy = t.Add(s.cfg.Timeout)
	return s.conn.SetWriteDeadline(s.writeBy)
}

// wait returns how long nothing happens by itself.
func (s *session) wait(now time.Time) time.Duration {
	next := s.wake
	for _, c := range s.inFlight {
		next = earlier(next, c.expires)
	}
	if len(s.inFlight) == 0 && s.cfg.RTU && now.Before(s.untagged.free) {
		next = earlier(next, s.untagged.free)
	}
	if s.broken() {
		next = earlier(next, s.heard.Add(s.gap()))
	}
	return next.Sub(now)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// receive takes bytes from the connection.
func (s *session) receive(now time.Time, b []byte) error {
	s.heard, s.silences = now, 0
	if s.cfg.RTU {
		s.untagged.bytes += len(b)
		s.untagged.free = now.Add(s.gapBefore())
		s.untagged.reader.Feed(b)
		if len(s.inFlight) == 0 {
			s.untagged.reader.Reset()
			return nil
		}
		c := s.inFlight[0]
		if body, ok := s.untagged.reader.Next(c.Unit, c.Request); ok {
			s.remove(0)
			s.answer(now, c, body)
		}
		return nil
	}
	s.tagged.reader.Feed(b)
	for {
		h, body, ok, err := s.tagged.reader.Next()
		if err != nil || !ok {
			return err
		}
		i := find(s.inFlight, h.Transaction)
		if i < 0 {
			s.count.late.Add(1)
			continue
		}
		if c := s.inFlight[i]; h.Unit == c.Unit {
			if i > 0 {
				if s.inFlight[0].passed++; s.inFlight[0].passed > maxWindow {
					s.window.overtaken()
				}
			}
			s.remove(i)
			s.answer(now, c, body)
		} else {
			s.count.damaged.Add(1) // the right one may follow
		}
	}
}

// gapBefore is the silence before a frame on a serial line.
func (s *session) gapBefore() time.Duration {
	if s.cfg.Line.Baud == 0 {
		return 0
	}
	return s.cfg.Line.Gap()
}

// answer ends a call with what came for it.
func (s *session) answer(now time.Time, c *call, body []byte) {
	u := s.units[c.Unit]
	data, err := c.Request.Check(body)
	took := now.Sub(c.sent)
	u.lost = 0 // units answer in order
	switch {
	case errors.Is(err, &pdu.Exception{Code: pdu.GatewayTarget}): // the gateway speaks, not the unit
		s.count.exceptions.Add(1)
		u.wasted(now, took, c.Timeout, s.shared(now, u), err)
	case errors.Is(err, pdu.ErrMismatch):
		s.count.damaged.Add(1)
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
		u.wasted(now, took, c.Timeout, s.shared(now, u), err)
	default:
		if err != nil {
			s.count.exceptions.Add(1)
		} else {
			s.count.answers.Add(1)
		}
		u.answered(max(0, took-s.exchange(c.Request)))
		s.window.answered(now, len(s.inFlight)+1 >= s.window.size && s.waiting())
	}
	if c.fenced != nil { // the line is clean: now the call itself
		u.queue[c.Priority] = slices.Insert(u.queue[c.Priority], 0, c.fenced)
		return
	}
	c.end(data, took, err)
}

// shared reports whether others than u have used the bus lately.
func (s *session) shared(now time.Time, u *unit) bool {
	const lately = 5 * time.Minute
	for _, o := range s.order {
		if o != u && now.Sub(o.called) < lately {
			return true
		}
	}
	return false
}

// waiting reports whether a call waits.
func (s *session) waiting() bool {
	for _, u := range s.order {
		if len(u.queue[Control])+len(u.queue[Poll]) > 0 {
			return true
		}
	}
	return false
}

// end tells the caller.
func (c *call) end(data []byte, took time.Duration, err error) {
	for c.fenced != nil {
		c = c.fenced
	}
	if !c.gone.Load() {
		c.Done(data, took, err)
	}
}

// remove takes a call off the wire.
func (s *session) remove(i int) {
	c := s.inFlight[i]
	u := s.units[c.Unit]
	u.inFlight--
	if c.Pause > 0 {
		u.free = time.Now().Add(c.Pause)
	}
	s.inFlight = slices.Delete(s.inFlight, i, i+1)
}
