package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Stream is one conversation on a session. It is a net.Conn that outlives the
// carriers below it; each direction can also end alone. All methods may be called
// beside each other.
type Stream struct {
	id   uint64
	kind wire.Kind
	s    *Session
	peer bool // opened by the peer
	used *kindCounters

	readBy, writeBy deadline
	wmu             sync.Mutex // keeps the pieces of one Write together; taken before mu

	mu      sync.Mutex // guards the following fields
	send    sender
	recv    receiver
	changed chan struct{} // closed when a Read or Write that waits must look again; nil while none waits
	closed  bool          // by Close or Reset
	writers int           // Writes in flight
	taken   int64         // of the session's memory, beyond streamBytes
	left    bool          // the session has forgotten it

	known   bool // the peer has seen the stream
	again   bool // the peer is to be told how far we are, whatever it may know
	opened  bool // StreamOpen was sent on the present carrier
	pumping bool // a pump runs
	lane    link.Lane
	carrier *carrier // whose lane it is
}

var _ net.Conn = (*Stream)(nil)

// Kind says what the stream is for.
func (st *Stream) Kind() wire.Kind { return st.kind }

// Read returns io.EOF when the peer has ended its direction, a *StreamError when
// it has reset the stream, a *SessionError when the session ended, and
// net.ErrClosed after Close or Reset. While the session has no carrier it waits.
func (st *Stream) Read(p []byte) (int, error) {
	for {
		late := st.readBy.passed()
		st.mu.Lock()
		if late && (!st.recv.done || len(st.recv.ready) > 0) {
			st.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		n, err := st.readLocked(p)
		if n > 0 || err != nil || len(p) == 0 {
			st.mu.Unlock()
			return n, err
		}
		changed := st.waitLocked()
		st.mu.Unlock()
		select {
		case <-changed:
		case <-st.readBy.done():
		}
	}
}

func (st *Stream) readLocked(p []byte) (int, error) {
	d := &st.recv
	if st.closed {
		return 0, net.ErrClosed
	}
	n := d.give(p)
	if n > 0 {
		st.renewLocked()
		if d.due() {
			st.s.tell(st)
		}
		return n, nil
	}
	if d.done {
		return 0, d.err
	}
	return 0, nil
}

// renewLocked lets the peer go on when the reader keeps up with it: as far as
// before, or twice as far when the window is what it waits for.
func (st *Stream) renewLocked() {
	d := &st.recv
	if d.done || d.limit-d.read > d.window/2 {
		return
	}
	now := time.Now()
	if most := st.mostLocked(); now.Sub(d.renewed) < 4*st.s.rtt() && d.window < most {
		if more := min(d.window, most-d.window); st.s.memory.grow(int64(more)) {
			st.taken += int64(more)
			d.window += more
		}
	}
	d.renewed = now
	d.limit = d.read + d.window
	st.flowLocked()
}

// Write returns errors as Read does. It returns when the stream has taken the
// bytes and most of them have left; they are kept, and sent again if need be,
// until the peer has them.
func (st *Stream) Write(p []byte) (n int, err error) {
	st.mu.Lock()
	st.writers++
	st.mu.Unlock()
	defer func() {
		st.mu.Lock()
		st.writers--
		st.mu.Unlock()
	}()
	st.wmu.Lock()
	defer st.wmu.Unlock()
	for {
		if st.writeBy.passed() {
			return n, os.ErrDeadlineExceeded
		}
		st.mu.Lock()
		if err := st.writeErrLocked(); err != nil || len(p) == 0 {
			st.mu.Unlock()
			return n, err
		}
		if st.send.full() {
			st.growLocked()
		}
		m := min(st.send.space(), len(p))
		st.send.write(p[:m])
		n, p = n+m, p[m:]
		st.used.sent.Add(uint64(m))
		st.kickLocked()
		if len(p) == 0 {
			st.mu.Unlock()
			st.s.wrote()
			return n, nil
		}
		changed := st.waitLocked()
		st.mu.Unlock()
		if m > 0 {
			st.s.wrote()
			continue
		}
		st.s.blocked.Add(1)
		select {
		case <-changed:
		case <-st.writeBy.done():
		}
		st.s.blocked.Add(-1)
	}
}

func (st *Stream) writeErrLocked() error {
	switch {
	case st.send.err != nil && !st.closed:
		return st.send.err
	case st.closed, st.send.fin:
		return net.ErrClosed
	case st.send.done:
		return &StreamError{Code: st.send.code, Remote: true}
	default:
		return nil
	}
}

// growLocked makes room for more bytes under way, as long as there is memory.
func (st *Stream) growLocked() {
	step := min(growStep, int(st.mostLocked())-st.send.room)
	if step > 0 && st.s.memory.grow(int64(step)) {
		st.taken += int64(step)
		st.send.room += step
	}
}

// CloseWrite ends the direction to the peer after what was written; it reads
// io.EOF. It must not be called beside Write.
func (st *Stream) CloseWrite() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return net.ErrClosed
	}
	st.finLocked()
	return nil
}

func (st *Stream) finLocked() {
	if st.send.fin || st.send.done || st.send.aborted {
		return
	}
	st.send.fin = true
	st.kickLocked()
	st.s.wrote()
}

// Close ends both directions: what was written still arrives, what the peer
// still sends is dropped, and the peer's Write fails with CodeCanceled. A Write
// in flight is cut off.
func (st *Stream) Close() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return nil
	}
	st.closed = true
	if st.writers > 0 {
		st.abortLocked(wire.CodeCanceled)
	} else {
		st.finLocked()
	}
	st.stopLocked(wire.CodeCanceled)
	return nil
}

// Reset ends both directions at once: the peer's Read and Write fail with a
// *StreamError of this code, what is under way is dropped.
func (st *Stream) Reset(code wire.Code) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return
	}
	st.closed = true
	st.abortLocked(code)
	st.stopLocked(code)
}

// abortLocked ends the sending direction before its end.
func (st *Stream) abortLocked(code wire.Code) {
	d := &st.send
	if d.done || d.aborted {
		return
	}
	d.aborted, d.code = true, code
	d.drop()
	d.next = d.base
	if st.lane != nil && st.carrier != nil {
		st.lane.Cancel(code)
	}
	st.wakeLocked()
	st.s.tell(st)
	st.s.wrote()
}

// stopLocked ends the receiving direction: nobody reads it any more.
func (st *Stream) stopLocked(code wire.Code) {
	st.recv.finish(code, net.ErrClosed)
	st.recv.ready = nil
	st.wakeLocked()
	st.s.tell(st)
	st.s.wrote()
}

// SetDeadline implements net.Conn.
func (st *Stream) SetDeadline(t time.Time) error {
	return errors.Join(st.SetReadDeadline(t), st.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (st *Stream) SetReadDeadline(t time.Time) error {
	st.readBy.set(t)
	return st.moved()
}

// SetWriteDeadline implements net.Conn.
func (st *Stream) SetWriteDeadline(t time.Time) error {
	st.writeBy.set(t)
	return st.moved()
}

// moved makes those who wait for an old deadline look again.
func (st *Stream) moved() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return net.ErrClosed
	}
	st.wakeLocked()
	return nil
}

// LocalAddr is the session's.
func (st *Stream) LocalAddr() net.Addr { return st.s.Stats().LocalAddr }

// RemoteAddr is the session's.
func (st *Stream) RemoteAddr() net.Addr { return st.s.Stats().RemoteAddr }

func (st *Stream) waitLocked() <-chan struct{} {
	if st.changed == nil {
		st.changed = make(chan struct{})
	}
	return st.changed
}

func (st *Stream) wakeLocked() {
	if st.changed != nil {
		close(st.changed)
		st.changed = nil
	}
}

// received takes in a piece of the peer's direction. It reports whether the
// piece breaks the protocol.
func (st *Stream) received(f *wire.StreamData) (ok bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.known = true
	d := &st.recv
	if d.done {
		d.told = false // it may not know
		st.tellLocked()
		return true
	}
	fresh, ok := d.take(f.Offset, f.Bytes, f.Fin)
	if !ok {
		return false
	}
	st.used.received.Add(uint64(fresh))
	if dup := len(f.Bytes) - fresh; dup > 0 && len(d.early) == 0 {
		st.s.duplicate.Add(uint64(dup))
	}
	st.widenLocked()
	if d.whole() {
		d.finish(wire.CodeOK, io.EOF)
		d.ended = true
	}
	if d.due() {
		st.s.tell(st)
	}
	st.wakeLocked()
	return true
}

// aborted takes in that the peer's direction ended before its end.
func (st *Stream) aborted(code wire.Code) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.known = true
	if !st.recv.done { // what has come whole stays whole
		st.recv.ready = nil
		st.recv.finish(wire.CodeOK, &StreamError{Code: code, Remote: true})
	}
	st.recv.ended, st.recv.told = true, false
	st.tellLocked()
	st.wakeLocked()
}

// acked takes in how far the peer has come with our direction.
func (st *Stream) acked(a *wire.StreamAck) (ok bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.known = true
	if st.send.done {
		return true
	}
	if a.Done {
		if a.Code == wire.CodeOK && !st.send.fin {
			a.Code = wire.CodeCanceled // it has forgotten the stream, and the code with it
		}
		st.send.code = a.Code
		var err error
		if !st.send.fin || a.Code != wire.CodeOK {
			err = &StreamError{Code: a.Code, Remote: true}
		}
		if st.lane != nil && (a.Code != wire.CodeOK || !st.send.finSent) {
			st.lane.Cancel(a.Code) // no end will be sent by it
		}
		st.send.end(err)
		st.s.tell(st) // it may be finished
	} else if !st.send.aborted && !st.send.acked(a.Received, a.Limit) {
		return false
	}
	st.kickLocked()
	st.wakeLocked()
	return true
}

// fail ends both directions with the session.
func (st *Stream) fail(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.recv.finish(wire.CodeOK, err)
	if !st.send.done {
		st.send.end(err)
	}
	st.wakeLocked()
}
