package kubeletfront

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-io/skerry/cloudproxy/status"
	"github.com/skerry-io/skerry/tunnel/compress"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Pods is where pods are looked up; a lister of an informer serves.
type Pods interface {
	// Pod returns a pod that the caller does not change. An error means that there
	// is none as far as is known here; the API is then asked.
	Pod(namespace, name string) (*corev1.Pod, error)
}

// Edges opens streams to edges.
type Edges interface {
	// DialEdge opens a stream without a round trip. The error for an edge without a
	// session comes at once and has a method Offline() (node string, since time.Time);
	// zero since means that it is not known.
	DialEdge(ctx context.Context, node string, kind wire.Kind) (net.Conn, error)
}

// Config is what a Server needs.
type Config struct {
	// Listener takes the connections; it is closed by Run. Nil listens on Addr.
	Listener net.Listener
	// Addr is where to listen when Listener is nil; empty means ":10250".
	Addr string
	// Certificate is the serving certificate, asked for at each handshake. Required.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Client asks the API for reviews, the client CA and pods. Required.
	Client kubernetes.Interface
	// Pods and Edges are required.
	Pods  Pods
	Edges Edges
	// Ports are those of nodes, listened on beside the Listener at Addr's host. A
	// request to one of them is for its node. Nil means that nodes have none.
	Ports Ports
	// Status tells of an edge's session at status.Path. Nil leaves the path to edges.
	Status func(node string) status.Session
	// Log gets a line for each stream. Nil discards.
	Log *slog.Logger
	// Registerer gets the metrics. Nil keeps them to the Server.
	Registerer prometheus.Registerer
	// MaxStreams bounds the logs, commands and forwarded connections open at the same
	// time, beyond which callers get 503; zero means 4096. MaxStreamsPerEdge does so
	// for one edge, with 429; zero means 512, which is what an edge takes.
	MaxStreams, MaxStreamsPerEdge int
}

// Server answers for the kubelets of all edges.
type Server struct {
	cfg       Config
	log       *slog.Logger
	guard     *guard
	limits    *limits
	metrics   *metrics
	transport *http.Transport
	codec     *compress.Codec // of logs

	port     int            // of the listener that all nodes share; set by Run
	handlers sync.WaitGroup // requests, also those whose connection was taken over
	mu       sync.Mutex     // guards the following field
	closing  bool           // no more requests are taken
}

// lastWords bounds what is written to a caller once its request is over.
const lastWords = time.Second

var errShutdown = errors.New("the proxy is shutting down")

// New checks cfg and returns a Server. It talks to no one yet.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	g, err := newGuard(cfg.Client, cfg.Log)
	if err != nil {
		return nil, err
	}
	codec, err := compress.New()
	if err != nil {
		return nil, err
	}
	return &Server{
		cfg: cfg, log: cfg.Log, guard: g, metrics: m, codec: codec,
		limits:    newLimits(cfg.MaxStreams, cfg.MaxStreamsPerEdge),
		transport: edgeTransport(cfg.Edges),
	}, nil
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Certificate == nil:
		return c, errors.New("kubelet front: Certificate is required")
	case c.Client == nil:
		return c, errors.New("kubelet front: Client is required")
	case c.Pods == nil || c.Edges == nil:
		return c, errors.New("kubelet front: Pods and Edges are required")
	}
	if c.Addr == "" {
		c.Addr = ":10250"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.MaxStreams <= 0 {
		c.MaxStreams = 4096
	}
	if c.MaxStreamsPerEdge <= 0 {
		c.MaxStreamsPerEdge = 512
	}
	return c, nil
}

// Run serves until ctx ends. Then it takes no new connections, cancels requests
// that are still open, and returns nil after the last; see Drain.
func (s *Server) Run(ctx context.Context) error {
	ln := s.cfg.Listener
	if ln == nil {
		var err error
		if ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Addr); err != nil {
			return fmt.Errorf("listen for kube-apiserver: %w", err)
		}
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(errShutdown)
	var background sync.WaitGroup
	defer background.Wait()
	guardCtx, stopGuard := context.WithCancel(base)
	defer stopGuard()
	background.Go(func() { s.guard.run(guardCtx) })

	srv := &http.Server{
		Handler:           s,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute, // above kube-apiserver's own 90 s
		MaxHeaderBytes:    64 << 10,
		// kube-apiserver puts the logs of all edges on few connections.
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 1000},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: s.cfg.Certificate,
			// Verified by the guard, against a CA that may change at any time.
			ClientAuth: tls.RequestClientCert,
		},
	}
	if addr, ok := ln.Addr().(*net.TCPAddr); ok {
		s.port = addr.Port
	}
	if s.cfg.Ports != nil {
		background.Go(func() { s.nodePorts(guardCtx, srv) })
	}
	served := make(chan error, 1)
	go func() { served <- srv.ServeTLS(ln, "", "") }()
	s.log.Info("kubelet API is served", "address", ln.Addr().String())
	select {
	case err := <-served:
		s.shut(ctx, srv, cancel)
		return fmt.Errorf("serve the kubelet API: %w", err)
	case <-ctx.Done():
	}
	s.shut(ctx, srv, cancel)
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the kubelet API: %w", err)
	}
	return nil
}

// Drain refuses requests that come from now on, and tells their callers why. Those
// that are open go on until Run is told to end, which is best done when what they
// wait for has ended.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
}

// shut ends what is left. A handler whose caller does not read hangs in a write
// that no context ends.
func (s *Server) shut(ctx context.Context, srv *http.Server, cancel context.CancelCauseFunc) {
	s.Drain()
	cancel(errShutdown)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.handlers.Wait()
	}()
	bounded, stop := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer stop()
	// Shutdown does not know connections that were taken over; handlers does.
	select {
	case <-done:
	case <-bounded.Done():
	}
	_ = srv.Shutdown(bounded)
	_ = srv.Close()
	<-done
	s.transport.CloseIdleConnections()
}

// enter counts a request unless the server is closing.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.handlers.Add(1)
	}
	return !s.closing
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		w.Header().Set("Connection", "close") // the caller's next one may reach another replica
		s.fail(w, r, &refusal{http.StatusServiceUnavailable, errShutdown.Error() + ": try again in some seconds"})
		return
	}
	defer s.handlers.Done()
	who, ok := s.guard.authenticate(r)
	if !ok {
		s.fail(w, r, &refusal{http.StatusUnauthorized, "Unauthorized"})
		return
	}
	r, ok = s.withPortNode(r)
	if !ok {
		s.fail(w, r, &refusal{http.StatusServiceUnavailable, "this port is no longer a node's: try again"})
		return
	}
	t, err := parseTarget(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	req := &request{target: t, user: who, start: time.Now()}
	req.remote, req.client = from(r)
	if err := s.admit(r, req); err != nil {
		s.fail(w, r, err)
		return
	}
	switch {
	case t.kind == kindExec || t.kind == kindAttach:
		s.command(w, r, req)
	case t.kind == kindForward:
		s.portForward(w, r, req)
	case (t.kind == kindNode || t.kind == kindDevice) && req.node == "":
		s.own(w, r, t)
	case t.kind == kindDevice:
		s.device(w, r, req)
	case t.kind == kindNode && t.path == status.Path && s.cfg.Status != nil:
		s.status(w, r, req.node)
	default:
		s.forward(w, r, req)
	}
}

// status answers what the proxy itself knows of an edge, also when it is offline.
func (s *Server) status(w http.ResponseWriter, r *http.Request, node string) {
	body, err := json.Marshal(s.cfg.Status(node))
	if err != nil {
		s.fail(w, r, fmt.Errorf("encode the status of edge %s: %w", node, err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// own answers node paths of a request that names no edge: the proxy's own health.
func (s *Server) own(w http.ResponseWriter, r *http.Request, t target) {
	if t.path != "/healthz" {
		s.fail(w, r, &refusal{http.StatusNotFound, "the request names no edge"})
		return
	}
	writeText(w, http.StatusOK, "ok")
}
