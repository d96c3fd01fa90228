package enroll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
)

// DefaultNamespace is where the proxy and its objects live.
const DefaultNamespace = "skerry-system"

// ManagedLabel is on every Node that Skerry owns. A token never buys the name of
// a Node without it: its holder would be sent that node's pods and secrets.
const ManagedLabel = "skerry.io/edge"

// managedByLabel is on the objects that Skerry made.
const (
	managedByLabel = "app.kubernetes.io/managed-by"
	managedBy      = "skerry"
)

// Config is what New needs.
type Config struct {
	// Client talks to the cluster. Required.
	Client kubernetes.Interface
	// Namespace holds the CA and the ConfigMaps; empty means DefaultNamespace.
	Namespace string
	// Advertise are the HOST:PORT addresses that edges dial. The first goes into
	// join commands, the hosts of all into the proxy's certificate. At least one.
	Advertise []string
	// Names are more names and IP addresses for the certificate.
	Names []string
	// TTL is the life of edges' certificates; 0 means issuer.DefaultTTL.
	TTL time.Duration
	// Grace is how long after its end a certificate can still be renewed, by who has its
	// key; 0 means DefaultGrace.
	Grace time.Duration
	// Limits bounds the load that strangers can cause; zero fields mean defaults.
	Limits Limits
	// Connected reports whether the node has a session now, for the log of a
	// node that joins again; nil means that nobody knows.
	Connected func(node string) bool
	// ManagedNode reports whether Skerry owns the Node; nil looks for ManagedLabel.
	ManagedNode func(*corev1.Node) bool
	// Key gives the KeyHash of the key that a node is known by, empty when none is. An
	// edge whose CA was replaced renews only with that; nil means that none can.
	Key func(*corev1.Node) string
	// Logger nil discards.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Client == nil {
		return c, errors.New("enroll: Client is missing")
	}
	if len(c.Advertise) == 0 {
		return c, errors.New("enroll: Advertise is empty: edges need an address to dial")
	}
	for _, addr := range c.Advertise {
		if host, _, err := net.SplitHostPort(addr); err != nil || host == "" {
			return c, fmt.Errorf("enroll: Advertise: %q is not HOST:PORT", addr)
		}
	}
	if c.Namespace == "" {
		c.Namespace = DefaultNamespace
	}
	if c.Connected == nil {
		c.Connected = func(string) bool { return false }
	}
	if c.ManagedNode == nil {
		c.ManagedNode = func(n *corev1.Node) bool { _, ok := n.Labels[ManagedLabel]; return ok }
	}
	if c.Key == nil {
		c.Key = func(*corev1.Node) string { return "" }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Grace <= 0 {
		c.Grace = DefaultGrace
	}
	c.Limits = c.Limits.withDefaults()
	return c, nil
}

// Service is the cloud side of joining, renewing and revoking.
type Service struct {
	cfg      Config
	log      *slog.Logger
	limiter  *limiter
	revoked  revocations
	identity atomic.Pointer[authority] // nil until Prepare

	renewed func(node string) // see OnRenewed

	prepare sync.Mutex    // held while preparing and while the CA changes; guards the following field
	changed chan struct{} // closed at the next change of the CA
}

// authority is what Prepare finds out. A change of the CA makes another one; of itself
// only the proxy's own certificate changes.
type authority struct {
	state   *rotation.State
	cluster string
	server  atomic.Pointer[serverCertificate]
}

// info is what join commands need.
func (a *authority) info(server string) Info {
	return Info{Server: server, CA: certs.EncodeBundle(a.state.Trusted()), Cluster: a.cluster}
}

// New checks the configuration and asks nobody anything.
func New(cfg Config) (*Service, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Service{
		cfg:     cfg,
		log:     cfg.Logger,
		limiter: newLimiter(cfg.Limits),
		revoked: revocations{log: cfg.Logger},
		changed: make(chan struct{}),
	}, nil
}

// Prepare reads or makes the CA, signs the proxy's certificate, reads the
// revocations and publishes the join information. CA, Cluster, ServerCertificate
// and Revoked are good once it returned nil. Run calls it if nobody did; a caller
// that listens for sessions calls it first. It may be called again after an error.
func (s *Service) Prepare(ctx context.Context) error {
	s.prepare.Lock()
	defer s.prepare.Unlock()
	if s.identity.Load() != nil {
		return nil
	}
	ns, err := s.cfg.Client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read the cluster's id: %w", err)
	}
	auth := &authority{cluster: string(ns.UID)}
	if auth.state, err = s.loadOrCreateCA(ctx, auth.cluster); err != nil {
		return err
	}
	if err := s.renewServerCertificate(auth); err != nil {
		return err
	}
	if err := s.readRevocations(ctx); err != nil {
		return err
	}
	info := auth.info(s.cfg.Advertise[0])
	if err := writeInfo(ctx, s.cfg.Client, s.cfg.Namespace, info); err != nil {
		return err
	}
	s.identity.Store(auth)
	s.log.Info("enrolment ready", "cluster", auth.cluster, "ca_hash", auth.state.CA.Hash().String(), "server", info.Server)
	return nil
}

// Run keeps certificates, revocations and tokens up to date until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	if err := s.Prepare(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.watchRevocations(ctx) })
	g.Go(func() error { return s.watchCA(ctx) })
	g.Go(func() error { return s.keepServerCertificate(ctx) })
	g.Go(func() error { return s.sweepTokens(ctx) })
	return g.Wait()
}

// CA gives the cluster's CA, by which this proxy is known; nil before Prepare.
func (s *Service) CA() *issuer.CA {
	if auth := s.identity.Load(); auth != nil {
		return auth.state.CA
	}
	return nil
}

// Cluster gives the cluster's id, empty before Prepare.
func (s *Service) Cluster() string {
	if auth := s.identity.Load(); auth != nil {
		return auth.cluster
	}
	return ""
}

// Handler serves certs.EnrollPath, certs.RenewPath and certs.SuccessionPath.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+certs.EnrollPath, s.serveEnroll)
	mux.HandleFunc("POST "+certs.RenewPath, s.serveRenew)
	mux.HandleFunc("GET "+certs.SuccessionPath, s.serveSuccession)
	return mux
}
