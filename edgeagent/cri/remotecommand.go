package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/cri/spdy"
)

// protocolV4 is the remotecommand protocol whose error stream carries a
// metav1.Status. Every CRI streaming server since Kubernetes 1.4 speaks it.
const protocolV4 = "v4.channel.k8s.io"

// exitCodeCause is the reason of the cause that holds the exit code.
const exitCodeCause metav1.CauseType = "ExitCode"

// nonZeroExit is the reason of a Status that means "it ran and failed".
const nonZeroExit metav1.StatusReason = "NonZeroExitCode"

// maxStatus bounds the error stream; a Status is a few hundred bytes.
const maxStatus = 64 << 10

// inputBuffer is held for as long as a command takes: 32 KiB would be half of all
// that it costs.
const inputBuffer = 8 << 10

type streams struct {
	tty            bool
	stdin          io.Reader
	stdout, stderr io.Writer
	resize         <-chan Size
}

// remoteCommand connects to a CRI streaming URL and moves the bytes until the
// command has ended and all its output is delivered. Nothing writes to the caller's
// writers but this goroutine.
func remoteCommand(ctx context.Context, rawURL string, s streams) (int, error) {
	done := make(chan struct{})
	defer close(done)
	waiting := &backlog{done: done}
	conn, err := spdy.Dial(ctx, waiting.dialer(), rawURL, protocolV4)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()

	status := &bounded{most: maxStatus}
	until := []spdy.Kind{{Type: corev1.StreamTypeError, To: status, ReadOnly: true}}
	if s.stdout != nil {
		until = append(until, spdy.Kind{Type: corev1.StreamTypeStdout, To: s.stdout, ReadOnly: true})
	}
	if s.stderr != nil && !s.tty {
		until = append(until, spdy.Kind{Type: corev1.StreamTypeStderr, To: s.stderr, ReadOnly: true})
	}
	kinds := until
	if s.stdin != nil {
		kinds = append(kinds, spdy.Kind{Type: corev1.StreamTypeStdin})
	}
	if s.tty {
		// The server waits for this stream whenever there is a TTY.
		kinds = append(kinds, spdy.Kind{Type: corev1.StreamTypeResize})
	}
	open, err := conn.Open(kinds...)
	if err != nil {
		return 0, err
	}
	inputs := open[len(until):]
	if s.stdin != nil {
		go copyStdin(inputs[0], s.stdin, waiting, s.tty)
	}
	if s.tty {
		go copyResize(inputs[len(inputs)-1], s.resize, done)
	}

	// The exit status may overtake output that is still on its way.
	received := conn.Receive(open[:len(until)]...)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	code, err := exitCode(status.b)
	if len(status.b) == 0 && received != nil {
		return 0, received
	}
	if err != nil {
		return 0, err
	}
	return code, received
}

// bounded keeps the first bytes that are written to it.
type bounded struct {
	b    []byte
	most int
}

// Write implements io.Writer; it takes everything.
func (w *bounded) Write(p []byte) (int, error) {
	w.b = append(w.b, p[:min(len(p), w.most-len(w.b))]...)
	return len(p), nil
}

// copyStdin ends when the input does, when the command closes its end, or with
// the connection. What is typed at a terminal goes at once: it may be Ctrl-C.
func copyStdin(stream *spdy.Stream, from io.Reader, waiting *backlog, tty bool) {
	to := io.Writer(stream)
	if !tty {
		to = drained{stream, waiting}
	}
	// The server may send a reset on this stream when the command has ended;
	// nothing to do then, the error stream tells the rest.
	_, _ = io.CopyBuffer(to, from, make([]byte, inputBuffer))
	waiting.drain()
	_ = stream.CloseWrite() // the command sees the end of input, its output goes on
}

func copyResize(stream *spdy.Stream, sizes <-chan Size, done <-chan struct{}) {
	enc := json.NewEncoder(stream)
	for {
		select {
		case <-done:
			return
		case size, ok := <-sizes:
			if !ok || enc.Encode(size) != nil {
				return
			}
		}
	}
}

// exitCode reads the final Status of a command.
func exitCode(raw []byte) (int, error) {
	if len(raw) == 0 {
		return 0, errors.New("the runtime closed the session without an exit status")
	}
	var st metav1.Status
	if err := json.Unmarshal(raw, &st); err != nil {
		return 0, fmt.Errorf("exit status %q: %w", raw, err)
	}
	switch {
	case st.Status == metav1.StatusSuccess:
		return 0, nil
	case st.Reason == nonZeroExit && st.Details != nil:
		for _, c := range st.Details.Causes {
			if c.Type != exitCodeCause {
				continue
			}
			code, err := strconv.ParseUint(c.Message, 10, 8)
			if err != nil {
				return 0, fmt.Errorf("exit code %q: %w", c.Message, err)
			}
			return int(code), nil
		}
	}
	return 0, &RuntimeError{Text: st.Message}
}
