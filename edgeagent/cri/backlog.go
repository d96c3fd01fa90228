package cri

import (
	"context"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// drainTimeout bounds the wait for a backlog to be read.
	drainTimeout = 30 * time.Second
	// drainPoll is how often a backlog is looked at.
	drainPoll = 10 * time.Millisecond
)

// backlog knows how much of a command's output waits in the socket to be read.
//
// The runtime closes its end when a command has ended, with output still on the
// way to us when the line to the cloud is slow. Whatever we send then makes the
// kernel reset the connection, and drop that output. So nothing is sent while
// there is output to be read.
type backlog struct {
	socket syscall.RawConn // nil before the connection is made
	done   <-chan struct{} // closed when the command is over
}

// dialer gives a dialer whose connection is watched.
func (b *backlog) dialer() *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, ControlContext: func(_ context.Context, _, _ string, c syscall.RawConn) error {
		b.socket = c
		return nil
	}}
}

// bytes is how many bytes wait; none when it can't be known.
func (b *backlog) bytes() (n int) {
	if b.socket == nil {
		return 0
	}
	_ = b.socket.Control(func(fd uintptr) { // fails once it is closed
		n, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ)
	})
	return n
}

// drain waits until nothing waits any more, the command is over, or it has taken
// too long: there are commands that write until they are told to stop.
func (b *backlog) drain() {
	late := time.After(drainTimeout)
	for b.bytes() > 0 {
		select {
		case <-b.done:
			return
		case <-late:
			return
		case <-time.After(drainPoll):
		}
	}
}

// drained is a writer that lets output go first.
type drained struct {
	io.Writer
	b *backlog
}

// Write implements io.Writer.
func (d drained) Write(p []byte) (int, error) {
	d.b.drain()
	return d.Writer.Write(p)
}
