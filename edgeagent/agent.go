// Package edgeagent is the edge half: it keeps one session to the cloud, stores
// what the cluster wants of this machine, runs its pods, and reports. Agent
// builds the parts and runs them; DESIGN.md has the flow. cmd/edgeagent is its
// only user.
package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/certs"
	fielddevices "github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/edgeagent/config"
	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/images"
	"github.com/skerry-io/skerry/edgeagent/pods"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
	"github.com/skerry-io/skerry/edgeagent/report"
	"github.com/skerry-io/skerry/edgeagent/staticpods"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// runtimeTimeout bounds the wait for a container runtime that has just been started.
const runtimeTimeout = 10 * time.Second

// Config is what an Agent needs.
type Config struct {
	// Config is the file's, valid.
	config.Config
	// Drivers are those of devices, by the protocol's name in Devices. May be nil.
	Drivers map[string]fielddevices.Driver
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
	trust    *trust
	identity certs.Identity
	clock    *certs.Clock  // by which certificates are checked
	refused  chan struct{} // of capacity 1: the cloud has refused our certificate
	keyring  *images.Keyring
}

// New reads the identity that `skerry join` left. It opens nothing else.
func New(cfg Config) (*Agent, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{cfg: cfg, log: cfg.Log.With("node", cfg.NodeName), clock: &certs.Clock{}, refused: make(chan struct{}, 1)}
	var err error
	if a.trust, err = loadTrust(cfg.CertDir); err != nil {
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
	if err := cfg.Fits(machine()); err != nil {
		return nil, err
	}
	if a.keyring, err = images.LoadKeyring(cfg.ImageCredentialProviderConfig, cfg.ImageCredentialProviderBinDir); err != nil {
		return nil, err
	}
	return a, nil
}

// Run works until ctx ends. Containers stay as they are: the next agent adopts
// them.
func (a *Agent) Run(ctx context.Context) error {
	client, v, err := a.connectRuntime(ctx)
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // nothing is buffered
	groups, err := a.groups(ctx, client)
	if err != nil {
		return err
	}
	st, err := store.Open(store.Config{Dir: filepath.Join(a.cfg.StateDir, "db"), BulkSubject: uint64(wire.SubjectSamples), Log: a.log})
	if err != nil {
		return err
	}
	err = a.serve(ctx, machineParts{client, v.Name, groups}, st)
	if cerr := st.Close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("close the store: %w", cerr))
	}
	a.log.Info("agent has stopped; containers run on", "runtime", v.Name+"://"+v.Version)
	return err
}

// connectRuntime makes sure that a runtime answers before anything else starts:
// without one an edge can do nothing, and a person must hear it at once.
func (a *Agent) connectRuntime(ctx context.Context) (*cri.Client, cri.Version, error) {
	client, err := cri.New(cri.Config{Endpoint: a.cfg.CRISocket, Log: a.log})
	if err != nil {
		return nil, cri.Version{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, runtimeTimeout)
	defer cancel()
	v, err := client.Ready(ctx)
	if err != nil {
		return nil, v, errors.Join(err, client.Close())
	}
	return client, v, nil
}

// machineParts are what the agent works with on its machine.
type machineParts struct {
	client  *cri.Client
	runtime string // its name
	groups  cgroups.Layout
}

// serve builds the parts on top of an open store and runs them.
func (a *Agent) serve(ctx context.Context, on machineParts, st *store.Store) error {
	client := on.client
	times := newTimekeeper(a.clock, a.keys, st, a.log)
	up, err := a.uplink(times)
	if err != nil {
		return err
	}
	b := &bounds{able: newAbilities(client, a.expected(on.groups))}
	rep, err := report.New(report.Config{Store: st, Dialer: up, Node: a.node(client, st, b), Log: a.log})
	if err != nil {
		return err
	}
	steps, err := desired.NewSteps(st)
	if err != nil {
		return err
	}
	fromCloud := &desired.Objects{Store: st, NotFound: pods.ErrNotFound, Log: a.log}
	var mgr *pods.Manager // woken only when it runs
	wake := func(key string) { mgr.Wake(key) }
	objects, files, err := a.withFiles(fromCloud, rep, wake)
	if err != nil {
		return err
	}
	issued, err := a.certificates(st, fromCloud, rep, up, wake)
	if err != nil {
		return err
	}
	mgr, err = a.podManager(podParts{objects, fromCloud, issued, rep, client, on.groups, steps, b})
	if err != nil {
		return err
	}
	field, local, err := a.devices(st, rep)
	if err != nil {
		return err
	}
	down, err := desired.New(desired.Config{Store: st, Dialer: up, Wake: either(issued.Wake, both(field.Wake, wake)), Steps: steps, Log: a.log})
	if err != nil {
		return err
	}
	house, err := a.housekeeping(client, on.runtime, mgr, rep)
	if err != nil {
		return err
	}
	measure, err := a.watch(on, mgr, rep, house.collector, b)
	if err != nil {
		return err
	}
	api, err := a.kubeletAPI(on, mgr, measure, field, &agentMetrics{node: a.cfg.NodeName, version: a.cfg.Version, started: time.Now(), pods: mgr, store: st, up: up, bus: local})
	if err != nil {
		return err
	}
	here, err := a.localServer(&localSource{pods: mgr, files: files, report: rep, store: st, up: up}, api)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	kubelet, exec, forward := up.Listener(wire.KindKubelet), up.Listener(wire.KindExec), up.Listener(wire.KindForward)
	renewer, news := a.renewer(up), up.Listener(wire.KindRenewal)
	for _, run := range []func(context.Context) error{
		a.keys.Run,
		times.run,
		renewer.run,
		up.Run,
		rep.Run,
		mgr.Run,
		field.Run, local.run,
		issued.Run,
		b.short.Run,
		files.Run,
		down.Run,
		here.Run,
		func(ctx context.Context) error { return api.ServeKubelet(ctx, kubelet) },
		func(ctx context.Context) error { return api.ServeExec(ctx, exec) },
		func(ctx context.Context) error { return api.ServeForward(ctx, forward) },
		func(ctx context.Context) error { return renewer.serveNews(ctx, news) },
		func(ctx context.Context) error { return watchStore(ctx, st) },
		house.run,
	} {
		g.Go(func() error { return run(ctx) })
	}
	a.log.Info("agent is up", "version", a.cfg.Version, "server", a.cfg.Server, "cri", a.cfg.CRISocket)
	return g.Wait()
}

// node is what the reporter tells of this machine.
func (a *Agent) node(client *cri.Client, st *store.Store, b *bounds) report.NodeConfig {
	return report.NodeConfig{
		Name:      a.cfg.NodeName,
		Runtime:   b.able.version,
		Images:    nodeImages(client),
		Handlers:  b.able.handlers,
		Features:  declaredFeatures(),
		MaxPods:   a.cfg.MaxPods,
		Pressures: b.pressures,
		Reserved:  a.reserved(),
		Addresses: nodeAddresses,
		Version:   a.cfg.Version,
		DataDir:   a.cfg.StateDir,
		Full:      st.Full,
	}
}

// withFiles is what is to run here: what the cloud wants, and what files of this
// machine say. The source is nil when there is no folder of them.
func (a *Agent) withFiles(fromCloud pods.Objects, rep *report.Reporter, wake func(key string)) (pods.Objects, *staticpods.Source, error) { //nolint:ireturn // one of two
	if a.cfg.StaticPodPath == "" {
		rep.StaticPods(nil) // there may have been some before
		return fromCloud, nil, nil
	}
	files, err := staticpods.New(staticpods.Config{Dir: a.cfg.StaticPodPath, NodeName: a.cfg.NodeName, Wake: wake, Changed: rep.StaticPods, Log: a.log})
	if err != nil {
		return nil, nil, err
	}
	return staticpods.Objects{Objects: fromCloud, Source: files}, files, nil
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

// nodeAddresses are the machine's own addresses, for people.
func nodeAddresses() []corev1.NodeAddress {
	var list []corev1.NodeAddress
	for _, ip := range hostIPs() {
		list = append(list, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	return list
}
