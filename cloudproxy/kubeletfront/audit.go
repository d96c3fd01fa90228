package kubeletfront

import (
	"sync"
	"sync/atomic"
	"time"
)

// stream is the account of one open stream.
type stream struct {
	s   *Server
	req *request
	// command is the command of an exec.
	command []string
	// in counts what the caller sent, out what it got.
	in, out atomic.Int64
	release func()
	once    sync.Once // close
}

// openStream takes a place for a stream and begins its account.
func (s *Server) openStream(req *request) (*stream, error) {
	release, err := s.limits.acquire(req.node)
	if err != nil {
		return nil, err
	}
	s.metrics.streams.WithLabelValues(req.kind.String()).Inc()
	return &stream{s: s, req: req, release: release}, nil
}

// close ends the account with one line for people who ask who did what. Only the
// first call counts.
func (a *stream) close(ended string) { a.once.Do(func() { a.end(ended) }) }

func (a *stream) end(ended string) {
	a.release()
	took, k := time.Since(a.req.start), a.req.kind.String()
	m := a.s.metrics
	m.streams.WithLabelValues(k).Dec()
	m.seconds.WithLabelValues(k).Observe(took.Seconds())
	m.bytes.WithLabelValues(k, "in").Add(float64(a.in.Load()))
	m.bytes.WithLabelValues(k, "out").Add(float64(a.out.Load()))
	log := a.s.log.With("kind", k, "user", a.req.user.GetName(), "node", a.req.node)
	if a.req.kind == kindNode {
		// Scrapes come every few seconds and touch no workload.
		log.Debug("stream ended", "path", a.req.path, "bytes_out", a.out.Load(), "duration", took, "ended", ended)
		return
	}
	log.Info("stream ended",
		"namespace", a.req.namespace, "pod", a.req.pod, "container", a.req.container, "command", a.command,
		"bytes_in", a.in.Load(), "bytes_out", a.out.Load(), "duration", took, "ended", ended)
}
