package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/bench/sync/edge"
	"github.com/skerry-io/skerry/bench/sync/objects"
	"github.com/skerry-io/skerry/bench/sync/websocket"
	"github.com/skerry-io/skerry/bench/tunnel/agent"
	"github.com/skerry-io/skerry/bench/tunnel/system"
	"github.com/skerry-io/skerry/manifests"
	"github.com/skerry-io/skerry/tests/lab"
)

const (
	// patience is for what takes seconds when all is well.
	patience = 2 * time.Minute
	// parallel is how many requests to the API are under way at once.
	parallel = 16
	// portBase is the first port of the lab; the WebSockets' is the last.
	portBase      = 19643
	websocketPort = portBase + 20
	// loading is the link over which an edge gets what it should have before
	// anything is measured.
	loading = "A"
)

// bed is what the measurements run on: a lab, and the other cloud beside its
// proxy.
type bed struct {
	options

	lab       *lab.Lab
	log       *slog.Logger
	client    kubernetes.Interface
	authority system.Authority
	token     lab.Token
	samples   *results.Samples

	output  *os.File // of the edges
	ends    []*end
	number  int // of the last edge
	stop    context.CancelFunc
	stopped chan error // of the other cloud
}

// end is an edge behind a link, and the process there.
type end struct {
	*lab.Edge

	system, link string
	process      *agent.Process
}

func newBed(o options, log *slog.Logger) (*bed, error) {
	yaml, err := manifests.Install(lab.Namespace)
	if err != nil {
		return nil, err
	}
	// Beside the demo, the end-to-end tests and bench-kubelet, whose numbers are lower.
	l, err := lab.New(lab.Config{Dir: o.dir, BinDir: o.bin, Name: "bsync", PortBase: portBase, Net: 170, Manifests: yaml, Log: log})
	if err != nil {
		return nil, err
	}
	authority, err := system.NewAuthority()
	return &bed{options: o, lab: l, log: log, authority: authority, samples: results.NewSamples(name)}, err
}

// measure brings everything up and makes the rows.
func (b *bed) measure(ctx context.Context) ([]results.Row, error) {
	if err := b.up(ctx); err != nil {
		return nil, err
	}
	var idle *idleWatch
	if b.does("idle") {
		var err error
		if idle, err = b.beginIdle(ctx); err != nil {
			return nil, fmt.Errorf("idle: %w", err)
		}
	}
	for _, s := range []struct {
		name string
		run  func(context.Context) error
	}{{"push", b.push}, {"reconnect", b.reconnect}, {"wear", b.wear}} {
		if !b.does(s.name) {
			continue
		}
		begin := time.Now()
		if err := s.run(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		b.log.Info("scenario done", "scenario", s.name, "took", time.Since(begin).Round(100*time.Millisecond))
	}
	if idle != nil {
		if err := idle.end(ctx); err != nil {
			return nil, fmt.Errorf("idle: %w", err)
		}
	}
	return b.samples.Rows(), nil
}

// up brings up the lab, without what a killed run has left, and the other cloud.
func (b *bed) up(ctx context.Context) error {
	begin := time.Now()
	if err := b.lab.Down(ctx); err != nil {
		return err
	}
	if err := b.lab.Up(ctx); err != nil {
		return err
	}
	var err error
	if b.output, err = os.Create(b.lab.LogFile("edges")); err != nil {
		return err
	}
	conf, err := clientcmd.BuildConfigFromFlags("", b.lab.Kubeconfig())
	if err != nil {
		return err
	}
	conf.QPS = -1 // no bound
	if b.client, err = kubernetes.NewForConfig(conf); err != nil {
		return err
	}
	if b.token, err = b.lab.CreateToken(ctx, "--uses", "20"); err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: objects.Namespace}}
	if _, err := b.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	// Pods are refused until their namespace has its ServiceAccount.
	err = lab.Until(ctx, patience, "the namespace's ServiceAccount", func() error {
		_, err := b.client.CoreV1().ServiceAccounts(objects.Namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if err != nil {
		return err
	}
	if err := b.serveWebsocket(ctx); err != nil {
		return err
	}
	b.log.Info("lab is up", "took", time.Since(begin).Round(100*time.Millisecond))
	return nil
}

func (b *bed) websocketAddress() string {
	return netip.AddrPortFrom(b.lab.CloudAddr(), websocketPort).String()
}

// serveWebsocket starts the other cloud, in this process.
func (b *bed) serveWebsocket(ctx context.Context) error {
	issuer, err := b.authority.Issuer()
	if err != nil {
		return err
	}
	conf, err := issuer.Server()
	if err != nil {
		return err
	}
	cloud, err := websocket.NewCloud(websocket.CloudConfig{
		Client: b.client, Namespace: objects.Namespace, Address: b.websocketAddress(), TLS: conf, Log: b.log,
	})
	if err != nil {
		return err
	}
	ctx, b.stop = context.WithCancel(ctx)
	b.stopped = make(chan error, 1)
	go func() { b.stopped <- cloud.Run(ctx) }()
	return nil
}

// down takes everything away.
func (b *bed) down(ctx context.Context) error {
	var errs []error
	for _, e := range b.ends {
		errs = append(errs, e.process.Stop())
	}
	if b.stop != nil {
		b.stop()
		errs = append(errs, <-b.stopped)
	}
	if b.output != nil {
		errs = append(errs, b.output.Close())
	}
	return errors.Join(append(errs, b.lab.Down(ctx))...)
}

// edge brings up the network of an edge.
func (b *bed) edge(ctx context.Context, node string) (*lab.Edge, error) {
	b.number++
	e, err := b.lab.Edge(node, b.number)
	if err != nil {
		return nil, err
	}
	return e, e.StartNetwork(ctx, loading)
}

// pair brings up an edge of each system that will be measured over a link, and
// connects both.
func (b *bed) pair(ctx context.Context, what, link string) ([]*end, error) {
	var both []*end
	for _, sys := range []string{ours, other} {
		e, err := b.end(ctx, what, link, sys)
		if err != nil {
			return nil, fmt.Errorf("%s over %s: %w", sys, link, err)
		}
		both = append(both, e)
	}
	return both, nil
}

func (b *bed) end(ctx context.Context, what, link, sys string) (*end, error) {
	e := &end{system: sys, link: link}
	var err error
	node := fmt.Sprintf("%s-%s-%c", what, sys, link[0]|0x20) // a lower-case letter
	if e.Edge, err = b.edge(ctx, node); err != nil {
		return nil, err
	}
	if e.process, err = agent.Start(ctx, filepath.Base(e.Netns()), b.output); err != nil {
		return nil, err
	}
	b.ends = append(b.ends, e)
	if sys == ours {
		join := edge.Join{Server: b.token.Server, Token: b.token.Token, CAHash: b.token.CAHash, Node: node, Dir: e.Path("skerry")}
		err = e.process.Call(ctx, edge.CallJoin, join, nil)
	} else {
		// Without its Node, pods would be taken for orphans.
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
		if _, err := b.client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
		w := edge.Websocket{Address: b.websocketAddress(), Authority: b.authority, Node: node, Dir: e.Path("websocket")}
		err = e.process.Call(ctx, edge.CallWebsocket, w, nil)
	}
	if err != nil {
		return nil, err
	}
	return e, e.connect(ctx, nil)
}

// connect connects and tells how long it took until all was there.
func (e *end) connect(ctx context.Context, took *time.Duration) error {
	var d time.Duration
	if took == nil {
		took = &d
	}
	return e.process.Call(ctx, edge.CallConnect, nil, took)
}

// profiles makes the links what they are measured with.
func profiles(ctx context.Context, ends []*end) error {
	for _, e := range ends {
		if err := e.SetLink(ctx, "profile", e.link); err != nil {
			return err
		}
	}
	return nil
}

// made marks an object that is new.
func made(kind, name string) string { return "made " + kind + " " + name }

// create makes ConfigMaps, and then pods that name them, and gives their marks.
func (b *bed) create(ctx context.Context, configMaps []*corev1.ConfigMap, pods []*corev1.Pod) (marks, error) {
	m := marks{own: map[string][]string{}}
	var g errgroup.Group
	g.SetLimit(parallel)
	for _, cm := range configMaps {
		mark := made("configmap", cm.Name)
		metav1.SetMetaDataAnnotation(&cm.ObjectMeta, edge.Mark, mark)
		m.all = append(m.all, mark)
		g.Go(func() error {
			_, err := b.client.CoreV1().ConfigMaps(objects.Namespace).Create(ctx, cm, metav1.CreateOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return m, err
	}
	for _, pod := range pods {
		mark := made("pod", pod.Name)
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, edge.Mark, mark)
		m.own[pod.Spec.NodeName] = append(m.own[pod.Spec.NodeName], mark)
		g.Go(func() error {
			_, err := b.client.CoreV1().Pods(objects.Namespace).Create(ctx, pod, metav1.CreateOptions{})
			return err
		})
	}
	return m, g.Wait()
}

// marks are those of objects that all edges should have, and of the pods of one.
type marks struct {
	all []string
	own map[string][]string // by node
}

// await waits until the edges have what they should.
func (m marks) await(ctx context.Context, ends []*end) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, e := range ends {
		g.Go(func() error {
			want := append(slices.Clone(m.all), m.own[e.Name]...)
			at, err := e.stored(ctx, want, patience)
			if err == nil && len(at) < len(want) {
				err = fmt.Errorf("%s has %d of %d objects after %v", e.Name, len(at), len(want), patience)
			}
			return err
		})
	}
	return g.Wait()
}

// stored tells when marks were on the disk of the edge, of those that come in time.
func (e *end) stored(ctx context.Context, marks []string, timeout time.Duration) (map[string]time.Time, error) {
	var at map[string]time.Time
	err := e.process.Call(ctx, edge.CallStored, edge.Marks{Marks: marks, Timeout: timeout}, &at)
	return at, err
}

// wait waits for a time.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
