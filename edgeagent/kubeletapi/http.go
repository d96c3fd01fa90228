package kubeletapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// podUIDHeader names the pod that is meant: another one may have the name by now.
const podUIDHeader = "Skerry-Pod-Uid"

const (
	// headerTimeout bounds how long a stream may take to say what it wants. Its
	// opener sends the request with the stream's first bytes.
	headerTimeout = 30 * time.Second
	maxHeaderSize = 16 << 10
	// closeTimeout bounds how long requests may take to end once they are canceled.
	closeTimeout = 5 * time.Second
)

// ServeKubelet serves HTTP on the connections of ln until ctx ends; then it
// cancels the requests that are open and returns nil after the last. It closes
// ln. A request's context ends when its stream does.
func (s *Server) ServeKubelet(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       headerTimeout,
		MaxHeaderBytes:    maxHeaderSize,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	err := srv.Serve(ln)
	// Handlers end by themselves: their contexts have ended, or do with their streams.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if srv.Shutdown(bounded) != nil {
		_ = srv.Close()
	}
	if ctx.Err() != nil {
		return nil // the listener was closed by us
	}
	return fmt.Errorf("serve the kubelet API: %w", err)
}

// Handler returns the HTTP part of the API.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	healthz := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", typeText)
		_, _ = io.WriteString(w, "ok")
	}
	mux.HandleFunc("GET /healthz", healthz)
	for _, check := range []string{"ping", "log", "syncloop"} { // a kubelet's
		mux.HandleFunc("GET /healthz/"+check, healthz)
	}
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.containerLogs)
	s.nodeRoutes(mux)
	return mux
}

// writeError answers with err's text and, when it is a *wire.Error, its status.
// There is no newline: kube-apiserver puts the text into its own message.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if e, ok := errors.AsType[*wire.Error](err); ok {
		status = e.Code.HTTPStatus()
	}
	writeStatus(w, status, err.Error())
}

func writeStatus(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", typeText)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}
