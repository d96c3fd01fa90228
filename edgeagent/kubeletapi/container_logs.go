package kubeletapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/skerry-io/skerry/edgeagent/kubeletapi/logs"
	"github.com/skerry-io/skerry/tunnel/compress"
	"github.com/skerry-io/skerry/tunnel/wire"
)

func (s *Server) containerLogs(w http.ResponseWriter, r *http.Request) {
	ns, pod, name := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")
	uid := r.Header.Get(podUIDHeader)
	q, err := parseLogQuery(r.URL.Query(), time.Now())
	if bad, ok := errors.AsType[*queryError](err); ok {
		writeStatus(w, bad.status, bad.text)
		return
	}
	c, err := find(s.pods, ns, pod, uid, name)
	if err != nil {
		writeError(w, err)
		return
	}
	attempt, err := c.logAttempt(pod, q.previous)
	if err != nil {
		writeError(w, err)
		return
	}
	if !acquire(s.logs) {
		writeError(w, &wire.Error{Code: wire.CodeTooMany, Text: fmt.Sprintf("%d logs are open at this edge, which is the most", cap(s.logs))})
		return
	}
	defer func() { <-s.logs }()

	q.options.Running = func() bool { return s.running(ns, pod, uid, name, attempt.ID) }
	out := newLogWriter(w, r, s.codec)
	if q.options.Follow {
		// A log that says nothing yet is open all the same.
		if err := out.start(); err != nil {
			return
		}
	}
	err = logs.Read(r.Context(), out, attempt.LogPath, q.options)
	s.log.Debug("log ended", "namespace", ns, "pod", pod, "container", name, "bytes", out.n, "error", err)
	s.endLog(out, err, name, pod)
}

// endLog ends a response so that the caller can tell a log that was cut off.
func (s *Server) endLog(out *logWriter, err error, name, pod string) {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		_ = out.start()
	case out.started:
		panic(http.ErrAbortHandler) // the HTTP way to end a body before its end
	case errors.Is(err, fs.ErrNotExist):
		writeError(out.w, &wire.Error{Code: wire.CodeBadRequest, Text: fmt.Sprintf("container %q in pod %q has no log file", name, pod)})
	default:
		writeError(out.w, err)
	}
}

// running tells whether one attempt of a container can still write.
func (s *Server) running(ns, pod, uid, name, id string) bool {
	c, err := find(s.pods, ns, pod, uid, name)
	return err == nil && c.State == Running && c.Current.ID == id
}

// logWriter hands each Write on at once, compressed if the caller takes that.
type logWriter struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	body    io.Writer
	started bool
	n       int64
}

func newLogWriter(w http.ResponseWriter, r *http.Request, codec *compress.Codec) *logWriter {
	l := &logWriter{w: w, rc: http.NewResponseController(w), body: w}
	if r.Header.Get("Accept-Encoding") == compress.Name {
		l.body = codec.NewWriter(w)
	}
	return l
}

// start sends the response's header.
func (l *logWriter) start() error {
	if l.started {
		return nil
	}
	l.started = true
	l.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if l.body != l.w {
		l.w.Header().Set("Content-Encoding", compress.Name)
	}
	l.w.WriteHeader(http.StatusOK)
	return l.rc.Flush()
}

func (l *logWriter) Write(b []byte) (int, error) {
	if err := l.start(); err != nil {
		return 0, err
	}
	n, err := l.body.Write(b)
	l.n += int64(n)
	if err != nil {
		return n, err
	}
	return n, l.rc.Flush()
}
