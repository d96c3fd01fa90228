package cri

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// runtimeServer runs "commands" with the streaming server that runtimes use.
type runtimeServer func(in io.Reader, out io.WriteCloser) error

// ExecInContainer implements remotecommand.Executor.
func (f runtimeServer) ExecInContainer(_ context.Context, _, _, _ string, _ []string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	return f(in, out)
}

func startRuntime(t *testing.T, command runtimeServer) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remotecommand.ServeExec(w, r, command, "", "", "", nil, &remotecommand.Options{Stdin: true, Stdout: true},
			time.Minute, time.Minute, remotecommand.SupportedStreamingProtocols)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// slowWriter is a line to the cloud that is slower than the command.
type slowWriter struct{ b bytes.Buffer }

func (w *slowWriter) Write(p []byte) (int, error) {
	<-time.After(time.Millisecond)
	return w.b.Write(p)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	<-time.After(10 * time.Millisecond)
	p = p[:min(len(p), 1<<10)]
	clear(p)
	return len(p), nil
}

// TestOutputSurvivesLateInput has a command that ends without reading its input,
// or before the input's end, with megabytes of output still to be read.
func TestOutputSurvivesLateInput(t *testing.T) {
	for _, tt := range []struct {
		name  string
		input func() io.Reader
	}{
		{"input without end", func() io.Reader { return zeros{} }},
		{"input that ends late", func() io.Reader {
			r, w := io.Pipe()
			time.AfterFunc(100*time.Millisecond, func() { w.Close() })
			return r
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := startRuntime(t, func(_ io.Reader, out io.WriteCloser) error {
				_, err := out.Write(make([]byte, 6<<20))
				return err
			})
			var out slowWriter
			code, err := remoteCommand(t.Context(), url, streams{stdin: tt.input(), stdout: &out})
			if code != 0 || err != nil || out.b.Len() != 6<<20 {
				t.Errorf("%d bytes of %d, exit code %d, %v", out.b.Len(), 6<<20, code, err)
			}
		})
	}
}
