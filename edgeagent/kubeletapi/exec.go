package kubeletapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"time"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// maxExecFrame is the bound that PROTOCOL.md gives for streams of commands and
	// of forwarded connections.
	maxExecFrame = 64 << 10
	// readBuffer is what each stream holds to read headers of frames from. What
	// does not fit goes by it.
	readBuffer = 4 << 10
	// requestTimeout bounds the wait for the request, which opens the stream.
	requestTimeout = 30 * time.Second
	// unblockAfter is how long a read or write may go on after the command's
	// context has ended; enough to still send the last frame.
	unblockAfter = 2 * time.Second
	// lingerTimeout is how long the peer may take to close the stream after the last
	// frame. Were it closed here at once, a carrier that resets on unread input
	// could lose that frame.
	lingerTimeout = 10 * time.Second
	// resizes is how many terminal sizes may wait; the oldest make room.
	resizes = 8
)

var errStreamEnded = errors.New("the stream of the command ended")

// execStream is the stream of one command.
type execStream struct {
	conn   net.Conn
	frames *wire.Reader
	cancel context.CancelCauseFunc

	mu  sync.Mutex // guards the following field and the order of frames written
	buf []byte
}

func (s *Server) serveExec(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Ends reads and writes that would outlive the context.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(unblockAfter)) })
	defer stop()
	e := &execStream{conn: conn, frames: wire.NewReader(bufio.NewReaderSize(conn, readBuffer), maxExecFrame), cancel: cancel}

	req, err := e.request()
	if err != nil {
		s.log.Debug("command refused", "error", err)
		e.fail(err)
		return
	}
	log := s.log.With("namespace", req.Namespace, "pod", req.Pod, "container", req.Container)
	c, err := s.commandTarget(req)
	if err == nil && !acquire(s.execs) {
		err = &wire.Error{Code: wire.CodeTooMany, Text: fmt.Sprintf("%d commands run at this edge, which is the most", cap(s.execs))}
	}
	if err != nil {
		log.Debug("command refused", "error", err)
		e.fail(err)
		e.linger(ctx, e.discard)
		return
	}
	defer func() { <-s.execs }()

	in := newInput()
	if !req.Stdin {
		in.close()
	}
	sizes := make(chan cri.Size, resizes)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(sizes)
		cancel(e.readInput(ctx, in, sizes))
	})
	code, err := s.runCommand(ctx, e.options(req, &c, in, sizes), req.Attach)
	in.close()
	log.Debug("command ended", "code", code, "error", err)
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errStreamEnded):
		// No one is there to be told.
	case cause != nil:
		e.fail(&wire.Error{Code: wire.CodeGoingAway, Text: "the edge agent is shutting down"})
	case err != nil:
		e.fail(err)
	case code < 0:
		e.fail(fmt.Errorf("command ended with code %d", code))
	default:
		_ = e.send(&wire.Exit{Code: uint64(code)})
	}
	e.linger(ctx, reader.Wait)
}

// runCommand runs a command when it is its turn, or joins the container's own: that
// has no exit code of its own to tell, the pod's status has it.
func (s *Server) runCommand(ctx context.Context, o cri.ExecOptions, attach bool) (int, error) {
	if !attach {
		done, err := s.starts.begin(ctx, &o)
		if err != nil {
			return 0, err
		}
		defer done()
		return s.runtime.Exec(ctx, o)
	}
	return 0, s.runtime.Attach(ctx, cri.AttachOptions{
		Container: o.Container, TTY: o.TTY, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Resize: o.Resize,
	})
}

// request reads the first frame.
func (e *execStream) request() (*wire.ExecRequest, error) {
	if err := e.conn.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return nil, fmt.Errorf("bound the wait for a request: %w", err)
	}
	f, err := e.frames.Next()
	if err != nil {
		return nil, &wire.Error{Code: wire.CodeProtocol, Text: fmt.Sprintf("read the request: %v", err)}
	}
	req, ok := f.(*wire.ExecRequest)
	if !ok {
		return nil, &wire.Error{Code: wire.CodeProtocol, Text: fmt.Sprintf("the stream begins with %T, not with a request", f)}
	}
	if len(req.Command) == 0 && !req.Attach {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Text: "no command"}
	}
	if err := e.conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("lift the bound on the wait: %w", err)
	}
	return req, nil
}

// commandTarget finds the container of a request; it must run.
func (s *Server) commandTarget(req *wire.ExecRequest) (Container, error) {
	c, err := find(s.pods, req.Namespace, req.Pod, req.UID, req.Container)
	if err != nil {
		return c, err
	}
	switch {
	case c.State == Running && c.Current.ID != "":
		return c, nil
	case req.Attach: // the kubelet's words, and why
		err = &wire.Error{Code: wire.CodeNotRunning, Text: fmt.Sprintf("container %s not found in pod %s_%s: it is not running", req.Container, req.Pod, req.Namespace)}
	default:
		err = &wire.Error{Code: wire.CodeNotRunning, Text: fmt.Sprintf("container %q in pod %q is not running", req.Container, req.Pod)}
	}
	return c, err
}

// options says what to run. Whether there is a terminal to join is not the
// caller's choice but that of the container's spec.
func (e *execStream) options(req *wire.ExecRequest, c *Container, in *input, sizes <-chan cri.Size) cri.ExecOptions {
	o := cri.ExecOptions{Container: c.Current.ID, Cmd: req.Command, TTY: req.TTY}
	if req.Attach {
		o.TTY = c.TTY
	}
	if req.Stdin {
		o.Stdin = in
	}
	if req.Stdout {
		o.Stdout = &output{e, wire.ChannelStdout}
	}
	if req.Stderr && !o.TTY {
		o.Stderr = &output{e, wire.ChannelStderr}
	}
	if o.TTY {
		o.Resize = sizes
	}
	return o
}

// readInput takes frames until the stream ends, also after the command has: its
// end is how the peer says that it has had the last frame.
func (e *execStream) readInput(ctx context.Context, in *input, sizes chan cri.Size) error {
	defer in.end()
	for {
		f, err := e.frames.Next()
		if err != nil {
			return fmt.Errorf("%w: %w", errStreamEnded, err)
		}
		switch f := f.(type) {
		case *wire.Data:
			if f.Channel != wire.ChannelStdin {
				continue
			}
			if err := in.write(ctx, f.Bytes, e.probe); err != nil {
				return fmt.Errorf("%w: %w", errStreamEnded, err)
			}
		case *wire.Resize:
			offer(sizes, cri.Size{Width: clamp(f.Width), Height: clamp(f.Height)})
		case *wire.CloseInput:
			in.end()
		}
	}
}

// discard takes frames until the stream ends.
func (e *execStream) discard() {
	for {
		if _, err := e.frames.Next(); err != nil {
			return
		}
	}
}

// offer puts v into c, whose only sender it is, and drops the oldest when c is full.
func offer(c chan cri.Size, v cri.Size) {
	for {
		select {
		case c <- v:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}

func clamp(v uint64) uint16 { return uint16(min(v, math.MaxUint16)) }

// probe notices a peer that is gone while its frames are not read: writing to it fails.
func (e *execStream) probe() error { return e.send(&wire.Data{Channel: wire.ChannelStdout}) }

func (e *execStream) send(f wire.Frame) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.buf = wire.Append(e.buf[:0], f)
	if _, err := e.conn.Write(e.buf); err != nil {
		err = fmt.Errorf("%w: %w", errStreamEnded, err)
		e.cancel(err)
		return err
	}
	return nil
}

// fail sends the last frame of a command that could not be run.
func (e *execStream) fail(err error) {
	last, ok := errors.AsType[*wire.Error](err)
	if !ok {
		last = &wire.Error{Code: wire.CodeInternal, Text: err.Error()}
	}
	_ = e.send(last)
}

// linger ends the stream after the last frame: it waits until the peer has
// closed its side, which until returns, and no longer than lingerTimeout.
func (e *execStream) linger(ctx context.Context, until func()) {
	if c, ok := e.conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	if ctx.Err() == nil {
		_ = e.conn.SetReadDeadline(time.Now().Add(lingerTimeout))
	}
	until()
}

// output frames what a command writes. Both outputs share one lock, so frames
// have the order in which the command's bytes came.
type output struct {
	e       *execStream
	channel wire.Channel
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		piece := b[n:min(n+wire.MaxData, len(b))]
		if err := o.e.send(&wire.Data{Channel: o.channel, Bytes: piece}); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}
