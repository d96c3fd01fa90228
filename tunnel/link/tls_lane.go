package link

import (
	"net"
	"strings"
	"sync"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// tlsLane is a place in the queue for the pipe.
type tlsLane struct {
	c      *tlsConn
	place  *waiter
	once   sync.Once
	closed chan struct{}
	err    error // why it is closed, ErrCanceled or net.ErrClosed
}

var _ Lane = (*tlsLane)(nil)

// Write implements Lane.
func (l *tlsLane) Write(frames []byte) (int, error) {
	select {
	case <-l.closed:
		return 0, l.err
	default:
	}
	return l.c.write(l.place, frames, l.closed)
}

// Close implements Lane. The peer does not see it.
func (l *tlsLane) Close() error {
	l.end(net.ErrClosed)
	return nil
}

// Cancel implements Lane. The peer does not see it; a Write that waits returns.
func (l *tlsLane) Cancel(wire.Code) { l.end(ErrCanceled) }

func (l *tlsLane) end(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.closed)
	})
}

// tlsReader is the other end of all lanes of a tlsConn.
type tlsReader struct {
	c      *tlsConn
	frames *filter
}

// Read implements io.Reader. Its error is the connection's.
func (r *tlsReader) Read(p []byte) (int, error) {
	r.c.reading.Lock()
	defer r.c.reading.Unlock()
	if err := r.c.Err(); err != nil {
		return 0, err
	}
	n, err := r.frames.Read(p)
	if err != nil {
		r.c.readFailed(err)
		return n, r.c.Err()
	}
	return n, nil
}

// clip shortens a text to what a goodbye may hold.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "")
}
