package kubeletapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// maxNode bounds the requests for the machine as a whole that are under way.
	// Those who ask are few: a scraper or two, metrics-server, people.
	maxNode = 16
	// writeTimeout bounds how long a caller may take for what fits into a buffer. It
	// is above what a link is usually away for.
	writeTimeout = 5 * time.Minute
	// writeBuffer is what an answer holds in memory.
	writeBuffer = 16 << 10

	devicesPrefix = "/devices/"

	typeJSON    = "application/json"
	typeText    = "text/plain; charset=utf-8"
	typeMetrics = "text/plain; version=0.0.4; charset=utf-8"
)

// NodeConfig is what answers for the machine and for all of its pods. What is
// left out is not served: 404.
type NodeConfig struct {
	// Pods gives the pods that are to run here, with their status, one after another.
	Pods func() iter.Seq[*corev1.Pod]
	// RunningPods gives what the runtime has, as far as it knows.
	RunningPods func(ctx context.Context) ([]*corev1.Pod, error)
	// Summary measures the machine and its pods, and gives what JSON shows of it.
	Summary func(ctx context.Context, onlyCPUAndMemory bool) (any, error)
	// Metrics writes metrics in Prometheus' text format, by path, such as
	// /metrics/resource.
	Metrics map[string]func(ctx context.Context, w io.Writer) error
	// Configz gives the configuration as JSON can show it.
	Configz func() any
	// LogDir is the folder whose files are shown below /logs/.
	LogDir string
	// Checkpoint writes a container's state to a file on this machine; the time may
	// be zero, for the runtime's own.
	Checkpoint func(ctx context.Context, containerID, file string, timeout time.Duration) error
	// CheckpointDir is where such files are put.
	CheckpointDir string
	// Devices answers below /devices/ and bounds what it does itself.
	Devices http.Handler
}

// nodeRoutes adds the paths that belong to the machine.
func (s *Server) nodeRoutes(mux *http.ServeMux) {
	n := &s.node
	get := func(path string, h http.HandlerFunc) {
		h = s.bounded(h)
		mux.HandleFunc("GET "+path, h)
		mux.HandleFunc("GET "+path+"/{$}", h)
	}
	if n.Pods != nil {
		get("/pods", s.podList)
	}
	if n.RunningPods != nil {
		get("/runningpods", s.runningPods)
	}
	if n.Summary != nil {
		get("/stats/summary", s.summary)
	}
	if n.Configz != nil {
		get("/configz", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, func(out io.Writer) error { return json.NewEncoder(out).Encode(n.Configz()) })
		})
	}
	for path, write := range n.Metrics {
		get(path, func(w http.ResponseWriter, r *http.Request) {
			answer(w, typeMetrics, func(out io.Writer) error { return write(r.Context(), out) })
		})
	}
	if n.LogDir != "" {
		mux.HandleFunc("GET /logs", s.bounded(s.logFiles))
		mux.HandleFunc("GET /logs/{path...}", s.bounded(s.logFiles))
	}
	if n.Devices != nil {
		mux.HandleFunc(devicesPrefix, func(w http.ResponseWriter, r *http.Request) {
			n.Devices.ServeHTTP(&patientWriter{ResponseWriter: w, rc: http.NewResponseController(w)}, r)
		})
	}
	if n.Checkpoint != nil {
		mux.HandleFunc("POST /checkpoint/{namespace}/{pod}/{container}", s.bounded(s.checkpoint))
	}
}

// bounded refuses what is too much, and ends an answer that nobody takes.
func (s *Server) bounded(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !acquire(s.nodes) {
			writeError(w, &wire.Error{Code: wire.CodeTooMany, Text: fmt.Sprintf("%d requests for the node are under way, which is the most", cap(s.nodes))})
			return
		}
		defer func() { <-s.nodes }()
		h(&patientWriter{ResponseWriter: w, rc: http.NewResponseController(w)}, r)
	}
}

// patientWriter gives each write its time. It hides ReadFrom, by which a body
// could go past it.
type patientWriter struct {
	http.ResponseWriter

	rc *http.ResponseController
}

func (w *patientWriter) Write(p []byte) (int, error) {
	_ = w.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // best effort: a test's writer has none
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController, by which no body goes.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// answer streams what write writes. An error before the first bytes are out is
// an answer of its own, one after it cuts the answer off.
func answer(w http.ResponseWriter, contentType string, write func(io.Writer) error) {
	out := &lateWriter{w: w, contentType: contentType}
	buf := bufio.NewWriterSize(out, writeBuffer)
	err := write(buf)
	switch {
	case err == nil:
		if buf.Buffered() == 0 && !out.started {
			_, _ = out.Write(nil)
		}
		_ = buf.Flush()
	case out.started:
		panic(http.ErrAbortHandler)
	default:
		writeError(w, err)
	}
}

// lateWriter sends the header with the first bytes.
type lateWriter struct {
	w           http.ResponseWriter
	contentType string
	started     bool
}

func (l *lateWriter) Write(p []byte) (int, error) {
	if !l.started {
		l.started = true
		l.w.Header().Set("Content-Type", l.contentType)
		l.w.WriteHeader(http.StatusOK)
	}
	return l.w.Write(p)
}

func writeJSON(w http.ResponseWriter, write func(io.Writer) error) { answer(w, typeJSON, write) }

func (s *Server) podList(w http.ResponseWriter, _ *http.Request) {
	writePods(w, s.node.Pods())
}

func (s *Server) runningPods(w http.ResponseWriter, r *http.Request) {
	list, err := s.node.RunningPods(r.Context())
	if err != nil {
		writeError(w, err)
		return
	}
	writePods(w, func(yield func(*corev1.Pod) bool) {
		for _, p := range list {
			if !yield(p) {
				return
			}
		}
	})
}

// writePods writes a PodList one pod at a time, so that it never is in memory as
// a whole.
func writePods(w http.ResponseWriter, pods iter.Seq[*corev1.Pod]) {
	writeJSON(w, func(out io.Writer) error {
		if _, err := io.WriteString(out, `{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[`); err != nil {
			return err
		}
		between := ""
		for p := range pods {
			p.TypeMeta = metav1.TypeMeta{} // as in any list
			b, err := json.Marshal(p)
			if err != nil {
				return fmt.Errorf("encode pod %s/%s: %w", p.Namespace, p.Name, err)
			}
			if _, err := io.WriteString(out, between); err != nil {
				return err
			}
			if _, err := out.Write(b); err != nil {
				return err
			}
			between = ","
		}
		_, err := io.WriteString(out, "]}\n")
		return err
	})
}

// summary measures. A kubelet takes nothing but "true" for true.
func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	sum, err := s.node.Summary(r.Context(), r.URL.Query().Get("only_cpu_and_memory") == "true")
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, func(out io.Writer) error {
		e := json.NewEncoder(out)
		e.SetIndent("", " ") // people read this one
		return e.Encode(sum)
	})
}
