package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
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

type streams struct {
	tty            bool
	stdin          io.Reader
	stdout, stderr io.Writer
	resize         <-chan Size
}

// remoteCommand connects to a CRI streaming URL and moves the bytes until the
// command has ended and all its output is delivered.
func remoteCommand(ctx context.Context, rawURL string, s streams) (int, error) {
	done := make(chan struct{})
	defer close(done)
	waiting := &backlog{done: done}
	conn, err := dialStreaming(ctx, rawURL, waiting)
	if err != nil {
		return 0, err
	}
	// Nothing may write to the caller's writers after the return.
	var copies sync.WaitGroup
	defer copies.Wait()
	defer func() { _ = conn.Close() }()
	// Closing the connection is the only way to unblock reads of its streams.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	errorStream, err := createStream(conn, corev1.StreamTypeError)
	if err != nil {
		return 0, err
	}
	// We never write on it: half-close at once.
	if err := errorStream.Close(); err != nil {
		return 0, fmt.Errorf("close error stream: %w", err)
	}

	var stdin, resize httpstream.Stream
	if s.stdin != nil {
		if stdin, err = createStream(conn, corev1.StreamTypeStdin); err != nil {
			return 0, err
		}
	}
	outputs, err := copyOutputs(conn, s, &copies)
	if err != nil {
		return 0, err
	}
	if s.tty {
		// The server waits for this stream whenever there is a TTY.
		if resize, err = createStream(conn, corev1.StreamTypeResize); err != nil {
			return 0, err
		}
	}
	if stdin != nil {
		go copyStdin(stdin, s.stdin, waiting, s.tty)
	}
	if resize != nil {
		go copyResize(resize, s.resize, done)
	}

	code, err := readExit(errorStream)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, err
	}
	// The exit status may overtake output that is still on its way.
	for range cap(outputs) {
		if copyErr := <-outputs; copyErr != nil && err == nil {
			err = copyErr
		}
	}
	return code, err
}

func dialStreaming(ctx context.Context, rawURL string, waiting *backlog) (httpstream.Connection, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("streaming url of the runtime: %w", err)
	}
	// No proxy from the environment: the server is on loopback.
	rt, err := spdy.NewRoundTripperWithProxy(nil, func(*http.Request) (*url.URL, error) { return nil, nil })
	if err != nil {
		return nil, fmt.Errorf("make spdy transport: %w", err)
	}
	rt.Dialer = waiting.dialer()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("streaming url of the runtime: %w", err)
	}
	req.Header.Set(httpstream.HeaderProtocolVersion, protocolV4)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("connect to the runtime's streaming server: %w", err)
	}
	conn, err := rt.NewConnection(resp)
	if err != nil {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("upgrade to spdy: %w", err)
	}
	if got := resp.Header.Get(httpstream.HeaderProtocolVersion); got != protocolV4 {
		_ = conn.Close()
		return nil, fmt.Errorf("the runtime's streaming server chose protocol %q, want %s", got, protocolV4)
	}
	return conn, nil
}

func createStream(conn httpstream.Connection, kind string) (httpstream.Stream, error) {
	h := http.Header{}
	h.Set(corev1.StreamType, kind)
	s, err := conn.CreateStream(h)
	if err != nil {
		return nil, fmt.Errorf("create %s stream: %w", kind, err)
	}
	return s, nil
}

// copyOutputs opens the output streams; the returned channel, of their number
// in capacity, gets one result each.
func copyOutputs(conn httpstream.Connection, s streams, copies *sync.WaitGroup) (chan error, error) {
	type output struct {
		kind string
		to   io.Writer
	}
	var outs []output
	if s.stdout != nil {
		outs = append(outs, output{corev1.StreamTypeStdout, s.stdout})
	}
	if s.stderr != nil && !s.tty {
		outs = append(outs, output{corev1.StreamTypeStderr, s.stderr})
	}
	results := make(chan error, len(outs))
	for _, o := range outs {
		stream, err := createStream(conn, o.kind)
		if err != nil {
			return nil, err
		}
		_ = stream.Close() // half-close: we only read it
		copies.Go(func() {
			_, err := io.Copy(o.to, stream)
			if err != nil {
				// Keep draining, or the command blocks on a full window.
				_, _ = io.Copy(io.Discard, stream)
				err = fmt.Errorf("copy %s: %w", o.kind, err)
			}
			results <- err
		})
	}
	return results, nil
}

// copyStdin ends when the input does, when the command closes its end, or with
// the connection. What is typed at a terminal goes at once: it may be Ctrl-C.
func copyStdin(stream httpstream.Stream, from io.Reader, waiting *backlog, tty bool) {
	to := io.Writer(stream)
	if !tty {
		to = drained{stream, waiting}
	}
	// The server may send a reset on this stream when the command has ended;
	// nothing to do then, the error stream tells the rest.
	_, _ = io.Copy(to, from)
	waiting.drain()
	_ = stream.Close() // half-close: the command sees end of input, its output goes on
}

func copyResize(stream httpstream.Stream, sizes <-chan Size, done <-chan struct{}) {
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

// readExit reads the final Status of a command.
func readExit(r io.Reader) (int, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxStatus))
	if err != nil {
		return 0, fmt.Errorf("read exit status: %w", err)
	}
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
