package kubeletfront

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// maxExecFrame is the bound that PROTOCOL.md gives for streams of commands.
const maxExecFrame = 64 << 10

// readBuffer is what a stream holds to read headers of frames from; what does not
// fit goes by it.
const readBuffer = 4 << 10

// execution is one command at an edge: it carries the streams that the library
// has opened with the caller over one stream of the tunnel. Backpressure is that
// stream's own: a pump that can't write does not read.
type execution struct {
	s    *Server
	a    *stream
	conn net.Conn
	opts *remotecommand.Options
	// ended says how the command ended, for the log.
	ended string

	pumps sync.WaitGroup
	once  sync.Once // closes conn

	mu  sync.Mutex // guards the following field and the order of frames written
	buf []byte
}

func newExecution(s *Server, a *stream, conn net.Conn, opts *remotecommand.Options) *execution {
	return &execution{s: s, a: a, conn: conn, opts: opts, ended: "the caller did not complete its upgrade"}
}

// AttachContainer implements remotecommand.Attacher.
func (x *execution) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return x.ExecInContainer(ctx, "", "", "", nil, in, out, errOut, tty, resize, 0)
}

// ExecInContainer implements remotecommand.Executor. The error's text is for the
// user; an exit code other than 0 is a utilexec.CodeExitError.
func (x *execution) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	stop := context.AfterFunc(ctx, func() { x.abort(wire.CodeCanceled) })
	defer stop()
	err := x.run(ctx, in, out, errOut, resize)
	switch exit, ok := errors.AsType[utilexec.CodeExitError](err); {
	case err == nil:
		x.ended = "exit 0"
	case ok:
		x.ended = fmt.Sprintf("exit %d", exit.Code)
	default:
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		x.ended = err.Error()
		x.abort(wire.CodeCanceled)
	}
	x.a.close(x.ended) // before the caller knows, so that its next command finds the place free
	return err         //nolint:wrapcheck // the library looks for utilexec.ExitError by type
}

func (x *execution) run(ctx context.Context, in io.Reader, out, errOut io.Writer, resize <-chan remotecommand.TerminalSize) error {
	req := x.a.req
	if err := x.send(&wire.ExecRequest{
		Namespace: req.namespace, Pod: req.pod, UID: req.podUID, Container: req.container, Command: x.a.command,
		TTY: x.opts.TTY, Stdin: x.opts.Stdin, Stdout: x.opts.Stdout, Stderr: x.opts.Stderr,
		Attach: req.kind == kindAttach,
	}); err != nil {
		return x.lost(err)
	}
	if x.opts.Stdin {
		x.pumps.Go(func() { x.pumpInput(in) })
	}
	if resize != nil {
		x.pumps.Go(func() { x.pumpSizes(ctx, resize) })
	}
	frames := wire.NewReader(bufio.NewReaderSize(x.conn, readBuffer), maxExecFrame)
	for {
		f, err := frames.Next()
		if err != nil {
			return x.lost(err)
		}
		switch f := f.(type) {
		case *wire.Data:
			if err := x.output(f, out, errOut); err != nil {
				return err
			}
		case *wire.Exit:
			if f.Code == 0 {
				return nil
			}
			code := int(min(f.Code, 1<<31-1))
			return utilexec.CodeExitError{Err: fmt.Errorf("exit status %d", code), Code: code}
		case *wire.Error:
			return x.refused(ctx, f)
		default:
			return fmt.Errorf("edge %s sent %T in answer to a command", req.node, f)
		}
	}
}

// output hands a command's output to the caller.
func (x *execution) output(f *wire.Data, out, errOut io.Writer) error {
	w := out
	switch {
	case f.Channel == wire.ChannelStdout && x.opts.Stdout:
	case f.Channel == wire.ChannelStderr && x.opts.Stderr:
		w = errOut
	default:
		return nil
	}
	if len(f.Bytes) == 0 {
		return nil // the edge sounds out whether we are there
	}
	n, err := w.Write(f.Bytes)
	x.a.out.Add(int64(n))
	if err != nil {
		return errCallerGone
	}
	return nil
}

// refused turns the edge's error into the user's. When the edge has no such pod,
// the API is asked whether it was replaced a moment ago.
func (x *execution) refused(ctx context.Context, e *wire.Error) error {
	if e.Code != wire.CodeNotFound {
		return e
	}
	return x.s.replaced(ctx, x.a.req, e)
}

// replaced says of a pod that its edge does not know whether another one has its
// name by now.
func (s *Server) replaced(ctx context.Context, req *request, e error) error {
	again := *req
	changed, err := s.confirm(ctx, &again)
	switch {
	case err != nil:
		return err
	case changed:
		return fmt.Errorf("pod %q was replaced by another of its name a moment ago: try again", again.pod)
	}
	return e
}

// lost says that the stream ended before the command did.
func (x *execution) lost(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("edge %s ended the stream before the command's end", x.a.req.node)
	}
	return lostStream(x.a.req.node, err)
}

// lostStream is the error of a stream that the edge or the tunnel ended.
func lostStream(node string, err error) error {
	if e, ok := errors.AsType[*tunnel.StreamError](err); ok && e.Remote {
		switch e.Code {
		case wire.CodeUnsupported:
			return fmt.Errorf("the agent of edge %s is too old for this: upgrade it", node)
		case wire.CodeTooMany:
			return fmt.Errorf("edge %s takes no more streams at the moment: try again", node)
		default:
		}
	}
	return fmt.Errorf("stream to edge %s was lost: %w", node, err)
}

// pumpInput sends what the caller types, and its end. When the stream breaks, the
// reader of frames says so.
func (x *execution) pumpInput(in io.Reader) {
	buf := make([]byte, readBuffer)
	for {
		n, err := in.Read(buf)
		x.a.in.Add(int64(n))
		if n > 0 && x.send(&wire.Data{Channel: wire.ChannelStdin, Bytes: buf[:n]}) != nil {
			return
		}
		if err != nil {
			_ = x.send(&wire.CloseInput{})
			return
		}
		buf = grown(buf, n)
	}
}

// grown gives a buffer for the next read, after one of n bytes: larger when there
// was more to read. Most callers type, and there are many of them.
func grown(buf []byte, n int) []byte {
	if n < len(buf) || n >= wire.MaxData {
		return buf
	}
	return make([]byte, 2*n)
}

func (x *execution) pumpSizes(ctx context.Context, sizes <-chan remotecommand.TerminalSize) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok || x.send(&wire.Resize{Width: uint64(size.Width), Height: uint64(size.Height)}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (x *execution) send(f wire.Frame) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.buf = wire.Append(x.buf[:0], f)
	if _, err := x.conn.Write(x.buf); err != nil {
		return fmt.Errorf("write %T: %w", f, err)
	}
	return nil
}

// abort gives the stream up, so that the edge ends the command.
func (x *execution) abort(code wire.Code) {
	x.once.Do(func() {
		if r, ok := x.conn.(interface{ Reset(code wire.Code) }); ok {
			r.Reset(code)
		}
		_ = x.conn.Close()
	})
}

// close ends the stream and returns after the last pump. The caller's connection
// is closed before.
func (x *execution) close() {
	x.once.Do(func() { _ = x.conn.Close() })
	x.pumps.Wait()
}
