package kubeletfront

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/skerry-io/skerry/devices/survey"
)

// device gives a request for devices to its edge. Its body is read first: what was
// written to a machine belongs into the log, whole or not at all.
func (s *Server) device(w http.ResponseWriter, r *http.Request, req *request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, survey.MaxBody))
	if err != nil {
		s.fail(w, r, &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request can't be read, or has more than %d bytes: %v", survey.MaxBody, err)})
		return
	}
	req.body, req.query = body, r.URL.RawQuery
	s.forward(w, r, req)
}

// endDevice is end for a request for devices: who did what to which. What proves a
// user to a server is not told.
func (a *stream) endDevice(log *slog.Logger, took time.Duration, ended string) {
	query := a.req.query
	if plain, err := url.QueryUnescape(query); err == nil {
		query = plain
	}
	if len(a.req.body) > 0 && survey.Tellable(a.req.path) {
		log = log.With("body", bounded(string(a.req.body), maxCommand))
	}
	log.Info("stream ended", "verb", a.req.verb, "path", bounded(a.req.path, maxPath), "query", bounded(query, maxPath),
		"bytes_in", len(a.req.body), "bytes_out", a.out.Load(), "duration", took, "ended", bounded(ended, maxEnded),
		"remote", a.req.remote, "client", a.req.client)
}
