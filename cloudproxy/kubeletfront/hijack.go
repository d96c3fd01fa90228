package kubeletfront

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// hijacker hands out a connection that tells when the caller is gone. net/http
// stops to watch a connection once it is taken over, and the libraries that take
// it over do not say: a command without input or output would never end.
type hijacker struct {
	http.ResponseWriter
	gone func()

	mu   sync.Mutex // guards the following field
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("take over the connection: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn = conn
	watched := &watchedConn{Conn: conn, gone: h.gone}
	// The library reads by rw, so that has to read by us, after what it holds.
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		return nil, nil, fmt.Errorf("read what came early: %w", err)
	}
	r := io.MultiReader(bytes.NewReader(bytes.Clone(early)), watched)
	return watched, bufio.NewReadWriter(bufio.NewReader(r), bufio.NewWriter(watched)), nil
}

// close closes the connection if it was taken over.
func (h *hijacker) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil {
		_ = h.conn.Close()
	}
}

// watchedConn calls gone when reading or writing fails.
type watchedConn struct {
	net.Conn
	gone func()
}

// Read implements net.Conn.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.gone()
	}
	return n, err //nolint:wrapcheck // io.EOF must stay io.EOF
}

// Write implements net.Conn.
func (c *watchedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		c.gone()
	}
	return n, err //nolint:wrapcheck // the library's business
}
