// Package edgeagent is the edge half: it keeps one session to the cloud, stores
// what the cluster wants of this machine, runs its pods, and reports. Agent
// builds the parts and runs them; DESIGN.md has the flow. cmd/edgeagent is its
// only user.
package edgeagent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/edgeagent/config"
	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/pods"
	"github.com/skerry-io/skerry/edgeagent/report"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// runtimeTimeout bounds the first question to the container runtime.
const runtimeTimeout = 10 * time.Second

// ticketCache bounds the TLS tickets that are kept: one for QUIC and one for TCP,
// and as many of a certificate that has just been renewed.
const ticketCache = 4

// Config is what an Agent needs.
type Config struct {
	// Config is the file's, valid.
	config.Config
	// Version is this build's.
	Version string
	// Log may be nil.
	Log *slog.Logger
}

// Agent is one edge.
type Agent struct {
	cfg      Config
	log      *slog.Logger
	keys     *certs.KeyPairFile
	trust    *x509.CertPool
	identity certs.Identity
}

// New reads the identity that `skerry join` left. It opens nothing else.
func New(cfg Config) (*Agent, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{cfg: cfg, log: cfg.Log.With("node", cfg.NodeName)}
	var err error
	if a.trust, err = loadTrust(filepath.Join(cfg.CertDir, "ca.crt")); err != nil {
		return nil, err
	}
	a.keys, err = certs.NewKeyPairFile(filepath.Join(cfg.CertDir, "edge.crt"), filepath.Join(cfg.CertDir, "edge.key"), a.log)
	if err != nil {
		return nil, fmt.Errorf("this edge has no certificate that can be used, run `skerry join`: %w", err)
	}
	if a.identity, err = a.keys.Identity(); err != nil {
		return nil, fmt.Errorf("certificate in %s: %w", cfg.CertDir, err)
	}
	if a.identity.Node != cfg.NodeName {
		return nil, &config.Error{Field: "nodeName", Reason: fmt.Sprintf("is %q, but the certificate in %s is that of %q: join again, or set the name back", cfg.NodeName, cfg.CertDir, a.identity.Node)}
	}
	return a, nil
}

// Run works until ctx ends. Containers stay as they are: the next agent adopts
// them.
func (a *Agent) Run(ctx context.Context) error {
	client, version, err := a.connectRuntime(ctx)
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // nothing is buffered
	st, err := store.Open(store.Config{Dir: filepath.Join(a.cfg.StateDir, "db"), Log: a.log})
	if err != nil {
		return err
	}
	err = a.serve(ctx, client, st)
	if cerr := st.Close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("close the store: %w", cerr))
	}
	a.log.Info("agent has stopped; containers run on", "runtime", version)
	return err
}

// connectRuntime makes sure that a runtime answers before anything else starts:
// without one an edge can do nothing, and a person must hear it at once.
func (a *Agent) connectRuntime(ctx context.Context) (*cri.Client, string, error) {
	client, err := cri.New(cri.Config{Endpoint: a.cfg.CRISocket, Log: a.log})
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, runtimeTimeout)
	defer cancel()
	v, err := client.Version(ctx)
	if err != nil {
		return nil, "", errors.Join(err, client.Close())
	}
	return client, v.Name + "://" + v.Version, nil
}

// serve builds the parts on top of an open store and runs them.
func (a *Agent) serve(ctx context.Context, client *cri.Client, st *store.Store) error {
	up, err := a.uplink()
	if err != nil {
		return err
	}
	rep, err := report.New(report.Config{
		Store:  st,
		Dialer: up,
		Node: report.NodeConfig{
			Name:      a.cfg.NodeName,
			Runtime:   func(ctx context.Context) (string, error) { return runtimeVersion(ctx, client) },
			Addresses: nodeAddresses,
			Version:   a.cfg.Version,
			DataDir:   a.cfg.StateDir,
		},
		Log: a.log,
	})
	if err != nil {
		return err
	}
	mgr, err := pods.New(pods.Config{
		Objects:       &desired.Objects{Store: st, NotFound: pods.ErrNotFound, Log: a.log},
		Reporter:      rep,
		Events:        podEvents{rep},
		CRI:           client,
		StateDir:      a.cfg.StateDir,
		LogsDir:       a.cfg.PodLogsDir,
		CgroupRoot:    a.cfg.CgroupRoot,
		NodeName:      a.cfg.NodeName,
		HostIP:        hostIPs,
		ClusterDNS:    a.cfg.ClusterDNS,
		ClusterDomain: a.cfg.ClusterDomain,
		Log:           a.log,
	})
	if err != nil {
		return err
	}
	down, err := desired.New(desired.Config{Store: st, Dialer: up, Wake: mgr.Wake, Log: a.log})
	if err != nil {
		return err
	}
	api, err := kubeletapi.New(kubeletapi.Config{Pods: podLookup{mgr}, Runtime: client, Log: a.log})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	kubelet, exec := up.Listener(wire.KindKubelet), up.Listener(wire.KindExec)
	for _, run := range []func(context.Context) error{
		a.keys.Run,
		up.Run,
		rep.Run,
		mgr.Run,
		down.Run,
		func(ctx context.Context) error { return api.ServeKubelet(ctx, kubelet) },
		func(ctx context.Context) error { return api.ServeExec(ctx, exec) },
		func(ctx context.Context) error { return watchStore(ctx, st) },
	} {
		g.Go(func() error { return run(ctx) })
	}
	a.log.Info("agent is up", "version", a.cfg.Version, "server", a.cfg.Server, "cri", a.cfg.CRISocket)
	return g.Wait()
}

// uplink dials with the newest certificate each time.
func (a *Agent) uplink() (*uplink.Uplink, error) {
	conf, err := certs.ClientTLS(certs.ClientConfig{
		GetClientCertificate: a.keys.GetClientCertificate,
		RootCAs:              a.trust,
		Cluster:              a.identity.Cluster,
		NextProtos:           []string{tunnel.ALPN},
		SessionCache:         tls.NewLRUClientSessionCache(ticketCache),
	})
	if err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("read the machine's name: %w", err)
	}
	return uplink.New(uplink.Config{
		Dial: func(ctx context.Context, inc uplink.Incarnation, seq uint64) (uplink.Session, error) {
			s, err := tunnel.Dial(ctx, tunnel.DialConfig{
				Address: a.cfg.Server,
				TLS:     conf,
				Hello: wire.Hello{
					Incarnation:  inc,
					Seq:          seq,
					AgentVersion: a.cfg.Version,
					OS:           runtime.GOOS,
					Arch:         runtime.GOARCH,
					Hostname:     hostname,
					Labels:       labels(a.cfg.Labels),
				},
				Log: a.log,
			})
			if err != nil {
				return nil, err // not s: a nil *Session in an interface is not nil
			}
			return s, nil
		},
		Watch: uplink.WatchNetwork,
		Log:   a.log,
	})
}

func labels(m map[string]string) []string {
	list := make([]string, 0, len(m))
	for k, v := range m {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}

// watchStore ends the agent when its store fails: going on would mean to
// acknowledge what is not kept.
func watchStore(ctx context.Context, st *store.Store) error {
	select {
	case <-st.Failed():
		return st.Err()
	case <-ctx.Done():
		return nil
	}
}

func runtimeVersion(ctx context.Context, client *cri.Client) (string, error) {
	v, err := client.Version(ctx)
	if err != nil {
		return "", err
	}
	health, err := client.Health(ctx)
	if err == nil {
		err = unready(health)
	}
	return v.Name + "://" + v.Version, err
}

// unready says why a runtime that answers can't run pods: without a network
// plugin, say, it makes no sandbox.
func unready(h cri.Health) error {
	switch {
	case h.RuntimeReady && h.NetworkReady:
		return nil
	case h.Reason == "":
		return errors.New("it does not say that it and its network are ready")
	default:
		return errors.New(h.Reason)
	}
}

// podEvents hands the pod workers' events to the outbox.
type podEvents struct{ to *report.Reporter }

func (e podEvents) Event(ref pods.PodRef, kind, reason, message string) {
	e.to.PodEvent(ref.Namespace, ref.Name, ref.UID, ref.FieldPath, kind, reason, message)
}

var _ pods.Events = podEvents{}

// nodeAddresses are the machine's own addresses, for people.
func nodeAddresses() []corev1.NodeAddress {
	var list []corev1.NodeAddress
	for _, ip := range hostIPs() {
		list = append(list, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	return list
}
