package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skerry-io/skerry/bench/tunnel/system"
)

const (
	alpn       = "http/1.1"
	pathPrefix = "/node/"
)

// CloudConfig is what a Cloud needs.
type CloudConfig struct {
	Client kubernetes.Interface
	// Namespace is the only one that is watched.
	Namespace string
	// Address is where it listens.
	Address string
	TLS     *tls.Config
	Log     *slog.Logger
}

// Cloud is the end at the API server.
type Cloud struct {
	cfg        CloudConfig
	factory    informers.SharedInformerFactory
	pods       corelisters.PodLister
	configMaps corelisters.ConfigMapLister

	mu    sync.Mutex // guards the following field
	nodes map[*node]struct{}
}

// NewCloud makes a Cloud for one Run.
func NewCloud(cfg CloudConfig) (*Cloud, error) {
	c := &Cloud{cfg: cfg, nodes: map[*node]struct{}{}}
	c.factory = informers.NewSharedInformerFactoryWithOptions(cfg.Client, 0,
		informers.WithNamespace(cfg.Namespace), informers.WithTransform(stripManagedFields))
	core := c.factory.Core().V1()
	c.pods, c.configMaps = core.Pods().Lister(), core.ConfigMaps().Lister()
	for resource, informer := range map[string]cache.SharedIndexInformer{
		pods: core.Pods().Informer(), configMaps: core.ConfigMaps().Informer(),
	} {
		changed := func(o any) { c.changed(resource, o) }
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: changed, UpdateFunc: func(_, o any) { changed(o) }, DeleteFunc: changed,
		})
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// stripManagedFields keeps from the link what no edge reads.
func stripManagedFields(o any) (any, error) {
	if m, ok := o.(metav1.Object); ok {
		m.SetManagedFields(nil)
	}
	return o, nil
}

// changed tells those whom an object concerns.
func (c *Cloud) changed(resource string, o any) {
	if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = d.Obj
	}
	m, ok := o.(metav1.Object)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range c.nodes {
		if pod, ok := o.(*corev1.Pod); ok && pod.Spec.NodeName != n.name {
			continue
		}
		n.changed(resource, m)
	}
}

// Run serves until ctx ends.
func (c *Cloud) Run(ctx context.Context) error {
	c.factory.StartWithContext(ctx)
	defer c.factory.Shutdown()
	c.factory.WaitForCacheSyncWithContext(ctx)
	lc := net.ListenConfig{Control: system.Cubic}
	lc.SetMultipathTCP(false) // its sockets keep the option to themselves
	ln, err := lc.Listen(ctx, "tcp", c.cfg.Address)
	if err != nil {
		return err
	}
	conf := c.cfg.TLS.Clone()
	conf.NextProtos = []string{alpn}
	var wg sync.WaitGroup // the connections, which the server forgets
	server := &http.Server{TLSConfig: conf, ReadHeaderTimeout: timeout, ErrorLog: slog.NewLogLogger(c.cfg.Log.Handler(), slog.LevelDebug)}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // the client has got an answer
		}
		wg.Go(func() {
			err := c.serve(ctx, strings.TrimPrefix(r.URL.Path, pathPrefix), ws)
			c.cfg.Log.Debug("websocket ended", "path", r.URL.Path, "err", err)
		})
	})
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err = server.ServeTLS(ln, "", "")
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// serve brings one node up to date and keeps it there.
func (c *Cloud) serve(ctx context.Context, name string, ws *websocket.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = ws.Close() })
	defer stop()
	n := newNode(name, ws)
	c.mu.Lock()
	c.nodes[n] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.nodes, n)
	}()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		n.read()
		cancel()
	})
	err := n.send(ctx, c)
	cancel()
	_ = ws.Close()
	return err
}
