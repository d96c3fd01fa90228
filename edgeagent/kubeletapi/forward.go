package kubeletapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// smallRead is what a forwarded connection holds while nothing comes from the pod.
	smallRead = 4 << 10
	// bigRead is what it may grow to when much comes.
	bigRead = wire.MaxData
	// soundEvery is how often the client is sounded out while its frames are not
	// read, or have ended.
	soundEvery = 30 * time.Second
	// deafAfter is how often soundEvery may pass before a pod that has ended its
	// output and takes no input is given up. Its client can't be sounded out.
	deafAfter = 10
)

var errDeaf = errors.New("the pod has ended its output and takes no input")

// forwardStream is the stream of one connection to a port of a pod. The main
// goroutine reads frames, another writes them.
type forwardStream struct {
	conn   net.Conn
	frames *wire.Reader
	target net.Conn

	work    sync.WaitGroup
	ended   chan struct{} // closed when nothing more will be written
	writing chan struct{} // capacity 1: held by who writes to conn, or closes ended
}

// halfCloser is a connection whose directions end one by one.
type halfCloser interface{ CloseWrite() error }

func (s *Server) serveForward(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &forwardStream{
		conn: conn, frames: wire.NewReader(bufio.NewReaderSize(conn, readBuffer), maxExecFrame),
		ended: make(chan struct{}), writing: make(chan struct{}, 1),
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(unblockAfter)) })
	defer stop()

	req, err := f.request()
	if err == nil && !acquire(s.forwards) {
		err = &wire.Error{Code: wire.CodeTooMany, Text: fmt.Sprintf("%d connections are forwarded at this edge, which is the most", cap(s.forwards))}
	} else if err == nil {
		defer func() { <-s.forwards }()
		f.target, err = s.dialPod(ctx, req)
	}
	if err != nil {
		s.log.Debug("connection not forwarded", "error", err)
		f.fail(err)
		f.linger(ctx)
		return
	}
	s.log.Debug("connection forwarded", "namespace", req.Namespace, "pod", req.Pod, "port", req.Port)
	defer f.closeTarget()
	unblock := context.AfterFunc(ctx, f.closeTarget)
	defer unblock()

	f.work.Go(func() {
		defer f.end()
		if err := f.pumpUp(); err != nil {
			// The client has been told, and has some time to end its side.
			_ = conn.SetReadDeadline(time.Now().Add(lingerTimeout))
		}
	})
	if gone := f.pumpDown(); gone {
		f.closeTarget()
		_ = conn.SetWriteDeadline(time.Now().Add(unblockAfter))
	} else {
		f.watch()
	}
	f.work.Wait()
}

// closeTarget ends what both pumps wait for. It may be called more than once.
func (f *forwardStream) closeTarget() { _ = f.target.Close() }

// request reads the first frame.
func (f *forwardStream) request() (*wire.ForwardRequest, error) {
	if err := f.conn.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return nil, fmt.Errorf("bound the wait for a request: %w", err)
	}
	first, err := f.frames.Next()
	if err != nil {
		return nil, &wire.Error{Code: wire.CodeProtocol, Text: fmt.Sprintf("read the request: %v", err)}
	}
	req, ok := first.(*wire.ForwardRequest)
	switch {
	case !ok:
		return nil, &wire.Error{Code: wire.CodeProtocol, Text: fmt.Sprintf("the stream begins with %T, not with a request", first)}
	case req.Port == 0 || req.Port > math.MaxUint16:
		return nil, &wire.Error{Code: wire.CodeBadRequest, Text: fmt.Sprintf("%d is not a port", req.Port)}
	}
	if err := f.conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("lift the bound on the wait: %w", err)
	}
	return req, nil
}

// dialPod connects to the port of a request.
func (s *Server) dialPod(ctx context.Context, req *wire.ForwardRequest) (net.Conn, error) {
	p, ok := s.pods.Lookup(req.Namespace, req.Pod, req.UID)
	switch {
	case !ok:
		return nil, &wire.Error{Code: wire.CodeNotFound, Text: fmt.Sprintf("pod %q not found", req.Pod)}
	case p.SandboxID == "":
		return nil, &wire.Error{Code: wire.CodeNotRunning, Text: fmt.Sprintf("pod %q is not running", req.Pod)}
	}
	conn, err := s.runtime.DialPod(ctx, p.SandboxID, uint16(req.Port))
	if err != nil {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Text: fmt.Sprintf("failed to connect to localhost:%d inside pod %s: %v", req.Port, req.Pod, err)}
	}
	return conn, nil
}

// pumpDown hands what the client says to the pod, and its end. It reports whether
// the stream is gone: nobody is there any more who would want to hear the rest.
func (f *forwardStream) pumpDown() (gone bool) {
	deaf := false // the pod takes no more; it may still have something to say
	for {
		frame, err := f.frames.Next()
		if errors.Is(err, io.EOF) {
			if c, ok := f.target.(halfCloser); ok && !deaf {
				_ = c.CloseWrite() // fails when the pod has closed, which the other pump tells
			}
			return false
		}
		if err != nil {
			return true
		}
		if d, ok := frame.(*wire.Data); ok && !deaf {
			deaf = f.give(d.Bytes) != nil
		}
	}
}

// give writes to the pod. Meanwhile nobody reads frames: if that lasts, the client is
// sounded out, beside it since a client that does not read may wait for this.
func (f *forwardStream) give(b []byte) error {
	for stuck := 1; ; stuck++ {
		_ = f.target.SetWriteDeadline(time.Now().Add(soundEvery)) // fails as Write then does
		n, err := f.target.Write(b)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err //nolint:wrapcheck // only whether there is one counts
		}
		if b = b[n:]; n > 0 {
			stuck = 0
		}
		select {
		case <-f.ended:
			if stuck >= deafAfter {
				f.closeTarget()
				return errDeaf
			}
		default:
			f.work.Go(f.sound)
		}
	}
}

// watch sounds out the client, which has ended its direction, until the pod ends the
// other.
func (f *forwardStream) watch() {
	tick := time.NewTicker(soundEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.ended:
			return
		case <-tick.C:
			f.sound()
		}
	}
}

// sound notices a client that is gone: writing to it fails. Who writes already will
// notice as well.
func (f *forwardStream) sound() {
	select {
	case f.writing <- struct{}{}:
	default:
		return
	}
	defer func() { <-f.writing }()
	select {
	case <-f.ended:
		return
	default:
	}
	if _, err := f.conn.Write(wire.Append(nil, &wire.Data{Channel: wire.ChannelStdout})); err != nil {
		f.closeTarget()
	}
}

// pumpUp hands what the pod says to the client until its end.
func (f *forwardStream) pumpUp() error {
	frame := wire.Data{Channel: wire.ChannelStdout}
	buf, out := make([]byte, smallRead), []byte(nil)
	for {
		n, err := f.target.Read(buf)
		if n > 0 {
			frame.Bytes = buf[:n]
			out = wire.Append(out[:0], &frame)
			if err := f.write(out); err != nil {
				f.closeTarget() // for the other pump, which may be writing
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			f.fail(fmt.Errorf("read from the pod: %w", err))
			return err
		}
		if n == len(buf) && n < bigRead {
			buf = make([]byte, 2*n)
		}
	}
}

// write sends frames whole, one goroutine's at a time.
func (f *forwardStream) write(frames []byte) error {
	f.writing <- struct{}{}
	defer func() { <-f.writing }()
	if _, err := f.conn.Write(frames); err != nil {
		return fmt.Errorf("write to the stream: %w", err)
	}
	return nil
}

// fail tells the client why the connection ended.
func (f *forwardStream) fail(err error) {
	last, ok := errors.AsType[*wire.Error](err)
	if !ok {
		last = &wire.Error{Code: wire.CodeInternal, Text: err.Error()}
	}
	_ = f.write(wire.Append(nil, last)) // fails when nobody is there to be told
}

// end says that nothing more comes. It is called once.
func (f *forwardStream) end() {
	f.writing <- struct{}{}
	defer func() { <-f.writing }()
	close(f.ended)
	if c, ok := f.conn.(halfCloser); ok {
		_ = c.CloseWrite()
	}
}

// linger waits until the peer has taken the last frame and has ended its side.
func (f *forwardStream) linger(ctx context.Context) {
	f.end()
	if ctx.Err() == nil {
		_ = f.conn.SetReadDeadline(time.Now().Add(lingerTimeout))
	}
	for {
		if _, err := f.frames.Next(); err != nil {
			return
		}
	}
}
