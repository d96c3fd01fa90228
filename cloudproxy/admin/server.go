// Package admin is the cloud proxy's door for operators and for Kubernetes'
// probes: health, readiness, metrics, and the list of connected edges. It
// listens on loopback by default and knows no secrets.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/cloudproxy/status"
)

// Config is what a Server needs.
type Config struct {
	// Listener is where requests come in; the Server closes it.
	Listener net.Listener
	// Gatherer collects the metrics of GET /metrics.
	Gatherer prometheus.Gatherer
	// Ready says what is still missing, or nil; it answers GET /readyz.
	Ready func() error
	// Edges lists the connected edges for GET /edges.
	Edges func() []status.Session
	// Log may be nil.
	Log *slog.Logger
}

// Server answers operators.
type Server struct {
	cfg  Config
	http *http.Server
}

// New checks cfg and makes a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Listener == nil || cfg.Gatherer == nil || cfg.Ready == nil || cfg.Edges == nil {
		return nil, errors.New("admin: Listener, Gatherer, Ready and Edges are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg}
	s.http = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Handler gives the routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.cfg.Ready(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /edges", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(s.cfg.Edges()); err != nil {
			s.cfg.Log.Debug("answer to an operator was cut off", "error", err)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{}))
	return mux
}

// Run serves until ctx ends, then gives requests in flight two seconds.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.http.Serve(s.cfg.Listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve admin requests: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		return s.http.Shutdown(stop)
	})
	return g.Wait()
}
