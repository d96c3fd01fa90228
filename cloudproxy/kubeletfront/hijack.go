package kubeletfront

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// readAhead is the most that is read from a caller before it is asked for.
const readAhead = 32 << 10

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
	read *io.PipeReader
	pump sync.WaitGroup
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
		_, err := io.CopyBuffer(pw, struct{ io.Reader }{conn}, make([]byte, readAhead))
		h.gone()
		_ = pw.CloseWithError(err)
	})
	watched := &watchedConn{Conn: conn, r: io.MultiReader(bytes.NewReader(bytes.Clone(early)), pr), gone: h.gone}
	return watched, bufio.NewReadWriter(bufio.NewReader(watched), bufio.NewWriter(watched)), nil
}

// hurry gives what is written to the caller a last moment: one that does not read
// would keep a write, and with it the request, for ever.
func (h *hijacker) hurry() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil {
		_ = h.conn.SetWriteDeadline(time.Now().Add(lastWords)) // fails when it is closed already
	}
}

// close closes the connection if it was taken over, and returns once no one
// reads from it.
func (h *hijacker) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return
	}
	_ = h.conn.Close()
	_ = h.read.Close()
	h.pump.Wait()
}

// watchedConn reads what the hijacker has read, and calls gone when writing fails.
type watchedConn struct {
	net.Conn
	r    io.Reader
	gone func()
}

// Read implements net.Conn.
func (c *watchedConn) Read(b []byte) (int, error) {
	return c.r.Read(b) //nolint:wrapcheck // io.EOF must stay io.EOF
}

// Write implements net.Conn.
func (c *watchedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		c.gone()
	}
	return n, err //nolint:wrapcheck // the library's business
}
