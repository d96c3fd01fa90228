package link

import (
	"net"
	"sync/atomic"
	"time"
)

// counted is a net.Conn that counts what passes, and knows when.
type counted struct {
	net.Conn
	start                 time.Time
	sent, received, reads atomic.Uint64
	wrote, read           atomic.Int64 // last times, since start
}

func newCounted(c net.Conn) *counted { return &counted{Conn: c, start: time.Now()} }

// Read implements net.Conn.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.received.Add(uint64(n))
		c.reads.Add(1)
		c.read.Store(int64(time.Since(c.start)))
	}
	return n, err
}

// Write implements net.Conn.
func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.sent.Add(uint64(n))
		c.wrote.Store(int64(time.Since(c.start)))
	}
	return n, err
}

// silence is how long one of the two directions has been idle, the longer.
func (c *counted) silence() time.Duration {
	return time.Since(c.start) - time.Duration(min(c.wrote.Load(), c.read.Load()))
}
