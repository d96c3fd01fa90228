// Package cloudproxy is the cloud half: it holds the sessions of edges, is the
// kubelet of each of them for kube-apiserver, tells them what to run, and writes
// down what they report. Server builds the parts and runs them; DESIGN.md has
// the flow. cmd/cloudproxy is its only user.
package cloudproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/desired"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
	"github.com/skerry-io/skerry/cloudproxy/registry"
	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/cloudproxy/samples"
	"github.com/skerry-io/skerry/cloudproxy/standing"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// prepareRetry is the pause between tries to reach the API server at the start.
	prepareRetry = 2 * time.Second
	// lastWords is how much earlier than sessions, which end then with all streams,
	// kube-apiserver's requests end.
	lastWords = time.Second
)

// Server is one cloud proxy.
type Server struct {
	cfg     Config
	addr    addresses
	log     *slog.Logger
	metrics *prometheus.Registry
	enroll  *enroll.Service
	desired *desired.Publisher
	samples *samples.Sink // nil when nobody takes them
	// What all edges' Nodes say; set by prepare.
	nodeAddresses []corev1.NodeAddress
	nodeFeatures  []string

	draining atomic.Bool
}

// New checks cfg and builds the parts that need no connection.
func New(cfg Config) (*Server, error) {
	addr, err := cfg.fill()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, addr: addr, log: cfg.Log, metrics: prometheus.NewRegistry()}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := s.metrics.Register(c); err != nil {
			return nil, fmt.Errorf("cloud proxy: register metrics: %w", err)
		}
	}
	if cfg.Samples.URL != "" {
		if s.samples, err = samples.New(cfg.Samples); err != nil {
			return nil, &ConfigError{"samples-url", err.Error()}
		}
	}
	if s.desired, err = desired.New(desired.Config{Client: cfg.Client, Dynamic: cfg.Dynamic, Samples: s.samples != nil, Registerer: s.metrics, Log: s.log}); err != nil {
		return nil, err
	}
	s.enroll, err = enroll.New(enroll.Config{
		Client:    cfg.Client,
		Namespace: cfg.Namespace,
		Advertise: addr.advertise,
		Names:     []string{addr.node.Addr().String()},
		// What a token buys must be what the edge is then let do.
		ManagedNode: report.Owned,
		Key:         standing.Key,
		TTL:         cfg.EdgeCertificateLifetime,
		Grace:       cfg.EdgeRenewalGrace,
		Logger:      s.log,
	})
	if err != nil {
		return nil, err
	}
	if err := s.metrics.Register(newCAMetrics(s.enroll)); err != nil {
		return nil, fmt.Errorf("cloud proxy: register metrics: %w", err)
	}
	return s, nil
}

// Run opens the sockets, waits for the cluster, and serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	socks, err := listen(ctx, &s.cfg)
	if err != nil {
		return err
	}
	defer socks.close()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	sessions, err := s.listenSessions(ctx, socks)
	if err != nil {
		return err
	}
	defer sessions.Close() //nolint:errcheck // the registry has closed it already, but for errors in between
	reg, err := registry.New(registry.Config{
		Listener: sessions, Refuse: s.refuse, Log: s.log, Registerer: s.metrics, EdgeMetrics: s.cfg.EdgeMetrics,
	})
	if err != nil {
		return err
	}
	s.enroll.OnRevoked(func(node string) { reg.Close(node, wire.CodeRevoked, "the identity of "+node+" was revoked") })
	p, err := s.parts(reg, socks)
	if err != nil {
		return err
	}
	alive, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, alive := errgroup.WithContext(alive)
	for _, run := range p.run {
		g.Go(func() error { return run(alive) })
	}
	frontCtx, stopFront := context.WithCancel(alive)
	defer stopFront()
	g.Go(func() error { return p.front.Run(frontCtx) })
	// Nobody joins while edges are sent away.
	enrolling, stopEnrolling := context.WithCancel(alive)
	defer stopEnrolling()
	g.Go(func() error { return s.serveEnroll(enrolling, socks) })
	g.Go(func() error {
		defer stop()
		select {
		case <-ctx.Done():
		case <-alive.Done(): // a part has failed
			return nil
		}
		stopEnrolling()
		return s.drain(alive, p, reg, stopFront)
	})
	s.log.Info("cloud proxy is up", "version", s.cfg.Version, "cluster", s.enroll.Cluster(), "edges", s.cfg.Listen,
		"kubelet", s.addr.node.String(), "admin", socks.admin.Addr().String())
	err = g.Wait()
	s.log.Info("cloud proxy has stopped")
	return err
}

// drain sends edges elsewhere and waits for what people wait for.
func (s *Server) drain(ctx context.Context, p *parts, reg *registry.Registry, stopFront func()) error {
	s.log.Info("cloud proxy drains", "within", s.cfg.Drain)
	s.draining.Store(true)
	p.front.Drain()
	p.nodes.Drain()
	// Those who are cut off hear why.
	cut := time.AfterFunc(max(s.cfg.Drain-lastWords, 0), stopFront)
	defer cut.Stop()
	return reg.Drain(ctx, s.cfg.Drain)
}

// prepare waits for an API server that answers: at the start of a whole cluster
// it may come after us.
func (s *Server) prepare(ctx context.Context) error {
	for {
		err := s.enroll.Prepare(ctx)
		if err == nil {
			err = s.learnCluster(s.cfg.Client.Discovery())
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.Warn("cluster is not usable yet", "error", err, "retry_in", prepareRetry)
		select {
		case <-time.After(prepareRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Server) listenSessions(ctx context.Context, socks *listeners) (*tunnel.Listener, error) {
	// The same keys after a restart and at all replicas: edges then learn in one
	// round trip that their session is gone, and their proofs of address stay good. After
	// a rotation of the CA that is so again once all replicas have restarted.
	var keys [2][32]byte
	for i, purpose := range []string{"stateless reset", "address token"} {
		var err error
		if keys[i], err = s.enroll.CA().Derive(purpose); err != nil {
			return nil, err
		}
	}
	conf, err := (&sessionTLS{enroll: s.enroll}).config()
	if err != nil {
		return nil, err
	}
	bounds := s.cfg.Bounds
	sessions, err := tunnel.Listen(ctx, tunnel.ListenConfig{
		MaxPending:        bounds.Handshakes,
		MaxStreams:        bounds.Streams,
		MaxWindow:         bounds.StreamMemory,
		MaxRate:           bounds.EdgeRate,
		MaxMemory:         bounds.EdgeMemory,
		MaxTotalMemory:    bounds.Memory,
		PacketConn:        socks.edges,
		Listener:          socks.split.with,
		TLS:               conf,
		StatelessResetKey: keys[0],
		TokenKey:          keys[1],
		Replica:           replicaName(),
		Refuse:            s.refuse,
		Log:               s.log,
	})
	if err != nil {
		return nil, err
	}
	if err := s.metrics.Register(newBoundsMetrics(sessions.Stats)); err != nil {
		return nil, errors.Join(fmt.Errorf("register the tunnel's bounds: %w", err), sessions.Close())
	}
	return sessions, nil
}

// refuse turns revoked edges away, here and not in TLS, so that they learn why.
func (s *Server) refuse(id certs.Identity, cert *x509.Certificate) (wire.Code, string) {
	if s.enroll.Revoked(id, cert) {
		return wire.CodeRevoked, "the identity of " + id.Node + " was revoked; it may join again with a new token"
	}
	return wire.CodeOK, ""
}

func (s *Server) ready() error {
	if s.draining.Load() {
		return errors.New("the proxy is shutting down")
	}
	select {
	case <-s.desired.Ready():
		return nil
	default:
		return errors.New("the first lists from kube-apiserver are not complete")
	}
}

// serveEnroll answers machines that want to join, who have no certificate yet.
func (s *Server) serveEnroll(ctx context.Context, socks *listeners) error {
	srv := &http.Server{
		Handler:           s.enroll.Handler(),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: s.enroll.GetCertificate},
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       20 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.ServeTLS(socks.split.without, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve enrolment: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return srv.Shutdown(stop)
	})
	return g.Wait()
}

// cachedPod gives a pod as the watch last saw it, or nil.
func (s *Server) cachedPod(namespace, name string) *corev1.Pod {
	pod, err := s.desired.Pod(namespace, name)
	if err != nil {
		return nil // the only error of a cache is that it is not there
	}
	return pod
}

// sessions shows the registry's sessions to package report.
type sessions struct{ *registry.Registry }

// Sessions implements report.Sessions.
func (s sessions) Sessions() []report.Session {
	var list []report.Session
	for _, i := range s.Registry.Sessions() {
		list = append(list, report.Session{Node: i.Node, Hello: i.Hello, Since: i.Stats.Since})
	}
	return list
}
