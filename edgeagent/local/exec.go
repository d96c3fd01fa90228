package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// maxExecFrame is the bound that PROTOCOL.md gives for streams of commands.
	maxExecFrame = 64 << 10
	// inputChunk is how much input goes into one frame at most.
	inputChunk = 16 << 10
)

// Size is that of a terminal, in characters.
type Size struct{ Width, Height uint16 }

// Command is a command to run in a container.
type Command struct {
	Namespace, Pod, Container string
	Command                   []string
	// TTY gives it a terminal; then all output comes on Stdout.
	TTY bool
	// In is its input, nil for none. A Read that has begun when the command ends is
	// not waited for.
	In io.Reader
	// Out and Err take its output.
	Out, Err io.Writer
	// Sizes are the terminal's, for TTY. May be nil.
	Sizes <-chan Size
}

// Exec runs a command to its end and gives its exit code. The error is nil
// whenever the command ran and ended, whatever its code.
func (c *Client) Exec(ctx context.Context, cmd Command) (int, error) {
	conn, err := c.upgrade(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	over := make(chan struct{})
	defer close(over)
	s := &sender{conn: conn}
	if err := s.send(&wire.ExecRequest{
		Namespace: cmd.Namespace, Pod: cmd.Pod, Container: cmd.Container, Command: cmd.Command,
		TTY: cmd.TTY, Stdin: cmd.In != nil, Stdout: true, Stderr: !cmd.TTY,
	}); err != nil {
		return 0, err
	}
	if cmd.In != nil {
		go s.pumpInput(cmd.In) // ends with its Read, or with conn
	}
	if cmd.Sizes != nil {
		go s.pumpSizes(cmd.Sizes, over)
	}
	code, err := output(conn, &cmd)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return code, err
}

// output copies what the command says until its end.
func output(conn net.Conn, cmd *Command) (int, error) {
	frames := wire.NewReader(bufio.NewReaderSize(conn, wire.MaxData), maxExecFrame)
	for {
		f, err := frames.Next()
		if errors.Is(err, io.EOF) {
			return 0, errors.New("the edge agent ended before the command did")
		}
		if err != nil {
			return 0, fmt.Errorf("connection to the edge agent: %w", err)
		}
		switch f := f.(type) {
		case *wire.Data:
			w := cmd.Out
			if f.Channel == wire.ChannelStderr {
				w = cmd.Err
			}
			if _, err := w.Write(f.Bytes); err != nil {
				return 0, fmt.Errorf("write the command's output: %w", err)
			}
		case *wire.Exit:
			return int(f.Code), nil
		case *wire.Error:
			return 0, errors.New(f.Text)
		default:
			return 0, fmt.Errorf("the edge agent answers a command with %T", f)
		}
	}
}

// sender writes frames of both pumps.
type sender struct {
	conn net.Conn

	mu  sync.Mutex // guards the following field and the order of frames written
	buf []byte
}

func (s *sender) send(f wire.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = wire.Append(s.buf[:0], f)
	if _, err := s.conn.Write(s.buf); err != nil {
		return fmt.Errorf("connection to the edge agent: %w", err)
	}
	return nil
}

func (s *sender) pumpInput(in io.Reader) {
	buf := make([]byte, inputChunk)
	for {
		n, err := in.Read(buf)
		if n > 0 && s.send(&wire.Data{Channel: wire.ChannelStdin, Bytes: buf[:n]}) != nil {
			return
		}
		if err != nil {
			_ = s.send(&wire.CloseInput{})
			return
		}
	}
}

func (s *sender) pumpSizes(sizes <-chan Size, over <-chan struct{}) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok || s.send(&wire.Resize{Width: uint64(size.Width), Height: uint64(size.Height)}) != nil {
				return
			}
		case <-over:
			return
		}
	}
}
