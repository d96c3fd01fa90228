package kubeletfront

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"k8s.io/streaming/pkg/httpstream"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// outageWait is how long a connection waits for an edge that is out of reach.
	outageWait = 30 * time.Second
	outagePoll = 200 * time.Millisecond
	// muteWait is how long a write may take to a pod that has ended its own output.
	// The caller's stream no longer tells a reset from its end then.
	muteWait = 10 * time.Minute
)

// connection is one that a caller forwards.
type connection struct {
	c      *connections
	stream io.ReadWriteCloser // the caller's end

	mu    sync.Mutex // guards the following fields
	conn  net.Conn   // the edge's end, nil before
	ended bool       // the pod has ended its direction, and we the stream's
	reset bool       // the caller has reset the stream
}

// run carries the connection over a stream of its own to the edge. The request
// goes at once and nothing waits for an answer to it.
func (x *connection) run(port uint16) error {
	c, req := x.c, x.c.a.req
	release, err := c.s.limits.acquire(req.node)
	if err != nil {
		return err
	}
	defer release()
	conn, err := x.dial()
	if err != nil {
		return unreachable(req.node, err)
	}
	stop := context.AfterFunc(c.ctx, func() { abandon(conn, wire.CodeCanceled) })
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	x.mu.Lock()
	x.conn = conn
	x.mu.Unlock()
	if err := wire.Write(conn, &wire.ForwardRequest{Namespace: req.namespace, Pod: req.pod, UID: req.podUID, Port: uint64(port)}); err != nil {
		return lostStream(req.node, err)
	}
	down := make(chan struct{})
	c.running.Go(func() {
		defer close(down)
		x.pumpDown(conn)
	})
	err = x.pumpUp(conn)
	if x.end() {
		return nil // nobody is there to be told
	}
	if err != nil {
		abandon(conn, wire.CodeCanceled)
		return err
	}
	if _, ok := x.stream.(httpstream.Stream); !ok {
		return nil // the older protocol has no other way to tell the pod's end
	}
	_ = x.stream.Close() // ends our direction alone
	select {
	case <-down:
	case <-c.ctx.Done():
	}
	return nil
}

// dial opens the stream to the edge. One that is out of reach for a moment is waited
// for: kubectl gives up all its connections when one of them fails.
func (x *connection) dial() (net.Conn, error) {
	c := x.c
	late := time.NewTimer(outageWait)
	defer late.Stop()
	for {
		conn, err := c.s.cfg.Edges.DialEdge(c.ctx, c.a.req.node, wire.KindForward)
		if _, ok := errors.AsType[offline](err); !ok {
			return conn, err //nolint:wrapcheck // unreachable has the words for it
		}
		select {
		case <-time.After(outagePoll):
		case <-late.C:
			return nil, err //nolint:wrapcheck // as above
		case <-c.ctx.Done():
			return nil, err //nolint:wrapcheck // as above
		}
	}
}

// end says that the pod's direction is over, and whether that is since the caller
// has reset the stream.
func (x *connection) end() (reset bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = true
	x.boundLocked()
	return x.reset
}

// write sends a frame to the edge. From the pod's end on it takes no longer than
// muteWait, and the edge gives the connection up when that is not enough.
func (x *connection) write(frame []byte) error {
	x.mu.Lock()
	x.boundLocked()
	x.mu.Unlock()
	_, err := x.conn.Write(frame)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		abandon(x.conn, wire.CodeCanceled)
	}
	return err //nolint:wrapcheck // only whether there is one counts
}

func (x *connection) boundLocked() {
	if x.ended {
		_ = x.conn.SetWriteDeadline(time.Now().Add(muteWait)) // fails when closed, as a write then does
	}
}

// endIfReset ends the edge's end when the caller has reset its own: its stream is
// finished then though we have not finished it. Once we have, boundLocked has to do.
func (x *connection) endIfReset() {
	s, ok := x.stream.(interface{ IsFinished() bool })
	if !ok {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.conn != nil && !x.ended && !x.reset && s.IsFinished() {
		x.reset = true
		abandon(x.conn, wire.CodeCanceled)
	}
}

// pumpDown sends what the caller says, and its end. When the stream breaks, the
// reader of frames says so.
func (x *connection) pumpDown(conn net.Conn) {
	buf, frame := make([]byte, readBuffer), []byte(nil)
	for {
		n, err := x.stream.Read(buf)
		x.c.a.in.Add(int64(n))
		if n > 0 {
			frame = wire.Append(frame[:0], &wire.Data{Channel: wire.ChannelStdin, Bytes: buf[:n]})
			if x.write(frame) != nil {
				// What the caller still sends must not keep its other connections.
				_, _ = io.Copy(io.Discard, x.stream)
				return
			}
		}
		if err != nil {
			if h, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = h.CloseWrite()
			}
			return
		}
		buf = grown(buf, n)
	}
}

// pumpUp hands what the pod says to the caller until its end.
func (x *connection) pumpUp(conn net.Conn) error {
	frames := wire.NewReader(bufio.NewReaderSize(conn, readBuffer), maxExecFrame)
	for {
		f, err := frames.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return lostStream(x.c.a.req.node, err)
		}
		switch f := f.(type) {
		case *wire.Data:
			if len(f.Bytes) == 0 {
				continue // the edge sounds out whether we are there
			}
			n, err := x.stream.Write(f.Bytes)
			x.c.a.out.Add(int64(n))
			if err != nil {
				return errCallerGone
			}
		case *wire.Error:
			return x.refused(f)
		default:
			return fmt.Errorf("edge %s sent %T on a forwarded connection", x.c.a.req.node, f)
		}
	}
}

// refused is the error of a connection that the edge did not make, or lost. When
// it has no such pod, the API is asked whether it was replaced a moment ago.
func (x *connection) refused(e *wire.Error) error {
	if e.Code != wire.CodeNotFound {
		return e
	}
	return x.c.s.replaced(x.c.ctx, x.c.a.req, e)
}
