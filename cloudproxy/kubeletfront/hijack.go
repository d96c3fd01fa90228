package kubeletfront

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readAhead is the most that is read from a caller before it is asked for.
	readAhead = 32 << 10
	// lingerTimeout bounds how long a caller may take to read the last of its output.
	lingerTimeout = 5 * time.Minute
)

// hijacker hands out a connection that tells when the caller is gone. net/http
// stops to watch a connection once it is taken over, and the libraries that take
// it over do not say, or stop reading before its end (SPDY, at the caller's
// GOAWAY): a command without input or output would never end. So it is read here,
// one piece ahead of the library.
type hijacker struct {
	http.ResponseWriter
	gone func()

	mu   sync.Mutex // guards the following fields
	conn net.Conn
	ours bool // deadlines are no longer the library's
	read *io.PipeReader
	pump sync.WaitGroup
	once sync.Once // shut
	over atomic.Bool
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("take over the connection: %w", err)
	}
	// What net/http has read already comes first.
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		return nil, nil, fmt.Errorf("read what came early: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	pr, pw := io.Pipe()
	h.conn, h.read = conn, pr
	h.pump.Go(func() {
		r, buf := struct{ io.Reader }{conn}, make([]byte, readAhead)
		_, err := io.CopyBuffer(pw, r, buf)
		if errors.Is(err, io.ErrClosedPipe) { // shut; the caller may still be there
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf)
		}
		h.gone()
		_ = pw.CloseWithError(err)
	})
	watched := &watchedConn{Conn: conn, r: io.MultiReader(bytes.NewReader(bytes.Clone(early)), pr), h: h}
	return watched, bufio.NewReadWriter(bufio.NewReader(watched), bufio.NewWriter(watched)), nil
}

// hurry gives the caller a last moment: one that does not read would keep a write,
// and one that does not close its end would keep linger.
func (h *hijacker) hurry() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ours = true
	if h.conn != nil {
		_ = h.conn.SetDeadline(time.Now().Add(lastWords)) // fails when it is closed already
	}
}

// setDeadline is for the libraries, which put the idle timeout off with all that
// they read and write. The last moment is not theirs to put off.
func (h *hijacker) setDeadline(set func(time.Time) error, t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ours {
		return nil
	}
	return set(t) //nolint:wrapcheck // the library's business
}

// shut ends both directions, without closing the connection: one that is closed
// while the caller still sends is reset, and what it has not read yet is lost.
func (h *hijacker) shut() {
	h.once.Do(func() {
		h.over.Store(true)
		h.mu.Lock()
		if !h.ours {
			h.ours = true
			_ = h.conn.SetDeadline(time.Now().Add(lingerTimeout)) // fails when it is closed already
		}
		h.mu.Unlock()
		_ = h.read.Close()
		if c, ok := h.conn.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite() // fails when the caller is gone
		}
	})
}

// end ends both directions if the connection was taken over.
func (h *hijacker) end() {
	if h.taken() {
		h.shut()
	}
}

// linger waits until the caller has read everything and is gone, or lingerTimeout
// is over, and closes the connection. When ctx ends the caller has a last moment.
func (h *hijacker) linger(ctx context.Context) {
	if !h.taken() {
		return
	}
	stop := context.AfterFunc(ctx, h.hurry)
	defer stop()
	h.pump.Wait()
	_ = h.conn.Close()
}

func (h *hijacker) taken() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conn != nil
}

// watchedConn reads what the hijacker has read, leaves it to the hijacker to
// close the connection, and calls gone when writing fails.
type watchedConn struct {
	net.Conn
	r io.Reader
	h *hijacker
}

// SetDeadline implements net.Conn.
func (c *watchedConn) SetDeadline(t time.Time) error { return c.h.setDeadline(c.Conn.SetDeadline, t) }

// SetReadDeadline implements net.Conn.
func (c *watchedConn) SetReadDeadline(t time.Time) error {
	return c.h.setDeadline(c.Conn.SetReadDeadline, t)
}

// SetWriteDeadline implements net.Conn.
func (c *watchedConn) SetWriteDeadline(t time.Time) error {
	return c.h.setDeadline(c.Conn.SetWriteDeadline, t)
}

// Close implements net.Conn.
func (c *watchedConn) Close() error {
	c.h.shut()
	return nil
}

// Read implements net.Conn.
func (c *watchedConn) Read(b []byte) (int, error) {
	return c.r.Read(b) //nolint:wrapcheck // io.EOF must stay io.EOF
}

// Write implements net.Conn.
func (c *watchedConn) Write(b []byte) (int, error) {
	if c.h.over.Load() {
		return 0, net.ErrClosed // a library's second goodbye says nothing about the caller
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		c.h.gone()
	}
	return n, err //nolint:wrapcheck // the library's business
}
