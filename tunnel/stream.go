package tunnel

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Stream is one conversation on a session. It is a net.Conn; each direction can
// also end alone. All methods may be called beside each other.
type Stream struct {
	kind wire.Kind
	l    *link.Stream
	s    *Session
	peer bool // opened by the peer

	wmu sync.Mutex // held while writing; taken before mu

	mu      sync.Mutex // guards the following fields
	closed  bool       // by Close or Reset
	fin     bool       // by CloseWrite
	writers int        // Writes in flight
}

var _ net.Conn = (*Stream)(nil)

// Kind says what the stream is for.
func (st *Stream) Kind() wire.Kind { return st.kind }

// Read returns io.EOF when the peer has ended its direction, a *StreamError when
// it has reset the stream, a *SessionError when the session ended, and
// net.ErrClosed after Close or Reset.
func (st *Stream) Read(p []byte) (int, error) {
	if st.isClosed() {
		return 0, net.ErrClosed
	}
	n, err := st.l.Read(p)
	if n > 0 {
		st.s.moved()
	}
	if err != nil && err != io.EOF { //nolint:errorlint // link.Stream returns io.EOF itself
		err = st.fault(err)
	}
	return n, err
}

// Write returns errors as Read does. It returns when the bytes are on their way
// but for the last packet's worth, not when they have arrived.
func (st *Stream) Write(p []byte) (n int, err error) {
	st.mu.Lock()
	if st.closed || st.fin {
		st.mu.Unlock()
		return 0, net.ErrClosed
	}
	st.writers++
	st.mu.Unlock()
	st.s.writers.Add(1)
	defer func() {
		st.s.writers.Add(-1)
		st.mu.Lock()
		st.writers--
		st.mu.Unlock()
	}()
	st.wmu.Lock() // keeps the pieces of one Write together
	defer st.wmu.Unlock()
	// In pieces, so that the watchdog sees that bytes still move.
	for piece := range slices.Chunk(p, 64<<10) {
		st.s.wrote()
		m, err := st.l.Write(piece)
		n += m
		st.s.moved()
		if err != nil {
			return n, st.fault(err)
		}
	}
	return n, nil
}

// CloseWrite ends the direction to the peer after what was written; it reads
// io.EOF. It must not be called beside Write.
func (st *Stream) CloseWrite() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return net.ErrClosed
	}
	if st.fin {
		return nil
	}
	st.fin = true
	st.s.wrote()
	return st.l.CloseWrite()
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
	switch {
	case st.writers > 0:
		st.l.CancelWrite(wire.CodeCanceled)
	case !st.fin:
		_ = st.l.CloseWrite() // fails when the peer has canceled it; it is closed all the same
	}
	st.l.CancelRead(wire.CodeCanceled)
	st.s.wrote()
	st.s.leave(st)
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
	st.l.CancelWrite(code)
	st.l.CancelRead(code)
	st.s.wrote()
	st.s.leave(st)
}

// SetDeadline implements net.Conn.
func (st *Stream) SetDeadline(t time.Time) error {
	return errors.Join(st.l.SetReadDeadline(t), st.l.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (st *Stream) SetReadDeadline(t time.Time) error { return st.l.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (st *Stream) SetWriteDeadline(t time.Time) error { return st.l.SetWriteDeadline(t) }

// LocalAddr is the session's.
func (st *Stream) LocalAddr() net.Addr { return st.s.conn.LocalAddr() }

// RemoteAddr is the session's.
func (st *Stream) RemoteAddr() net.Addr { return st.s.conn.RemoteAddr() }

// fault gives an error of the carrier its meaning here.
func (st *Stream) fault(err error) error {
	var (
		reset *link.ResetError
		ended *link.ConnError
	)
	switch {
	case errors.As(err, &ended):
		return st.s.fail(err)
	case st.isClosed():
		return net.ErrClosed
	case errors.As(err, &reset):
		return &StreamError{Code: reset.Code, Remote: reset.Remote}
	default:
		return err
	}
}

func (st *Stream) isClosed() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.closed
}

// byteReader reads a header without taking a byte more than it has.
type byteReader struct{ io.Reader }

func (r byteReader) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r.Reader, b[:])
	return b[0], err
}
