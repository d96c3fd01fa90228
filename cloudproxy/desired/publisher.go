package desired

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// byNode is the name of the index of pods by spec.nodeName.
const byNode = "node"

// maxTokenRequests bounds the TokenRequests under way for all edges together, so
// that a fleet that comes back leaves the API server some air.
const maxTokenRequests = 16

// Config is what a Publisher needs.
type Config struct {
	// Client is required. It needs list and watch on pods, configmaps and secrets,
	// get on pods, and create on serviceaccounts/token.
	Client kubernetes.Interface
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Publisher serves the desired streams of all edges from one set of watches.
type Publisher struct {
	client kubernetes.Interface
	log    *slog.Logger
	// ConfigMaps and Secrets are watched in the whole cluster: one watch each
	// instead of one per object that a pod names, as kubelets have, and an edge
	// that comes back costs no read at all. The price is their size in memory, so
	// Helm's release Secrets, the bulk of it in many clusters, stay out.
	pods, configMaps, secrets cache.SharedIndexInformer
	ready                     chan struct{} // closed when all three are synced
	tokenSlots                chan struct{}

	mu    sync.Mutex                      // guards the following fields
	nodes map[string]map[*stream]struct{} // node -> its streams
	users map[string]map[*stream]struct{} // key that a pod names -> streams that want it
}

// New builds the informers. Run starts them.
func New(cfg Config) (*Publisher, error) {
	if cfg.Client == nil {
		return nil, errors.New("desired config: Client is required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Publisher{
		client:     cfg.Client,
		log:        cfg.Log,
		ready:      make(chan struct{}),
		tokenSlots: make(chan struct{}, maxTokenRequests),
		nodes:      make(map[string]map[*stream]struct{}),
		users:      make(map[string]map[*stream]struct{}),
	}
	p.pods = coreinformers.NewFilteredPodInformer(cfg.Client, metav1.NamespaceAll, 0, cache.Indexers{byNode: indexByNode},
		func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermNotEqualSelector("spec.nodeName", "").String()
		})
	p.configMaps = coreinformers.NewConfigMapInformer(cfg.Client, metav1.NamespaceAll, 0, cache.Indexers{})
	p.secrets = coreinformers.NewFilteredSecretInformer(cfg.Client, metav1.NamespaceAll, 0, cache.Indexers{},
		func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermNotEqualSelector("type", "helm.sh/release.v1").String()
		})
	if err := p.watch(); err != nil {
		return nil, err
	}
	return p, nil
}

func indexByNode(o any) ([]string, error) {
	if pod, ok := o.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
		return []string{pod.Spec.NodeName}, nil
	}
	return nil, nil
}

func (p *Publisher) watch() error {
	for _, w := range []struct {
		informer cache.SharedIndexInformer
		changed  func(o any)
	}{
		{p.pods, p.podChanged},
		{p.configMaps, func(o any) { p.namedChanged(wire.ResourceConfigMaps, o) }},
		{p.secrets, func(o any) { p.namedChanged(wire.ResourceSecrets, o) }},
	} {
		if err := w.informer.SetTransform(stripManagedFields); err != nil {
			return fmt.Errorf("desired: %w", err)
		}
		_, err := w.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: w.changed,
			// A pod that was deleted and made anew between two events may have moved.
			UpdateFunc: func(before, after any) { w.changed(before); w.changed(after) },
			DeleteFunc: w.changed,
		})
		if err != nil {
			return fmt.Errorf("desired: %w", err)
		}
	}
	return nil
}

// stripManagedFields keeps out of memory what no edge is sent.
func stripManagedFields(o any) (any, error) {
	if m, ok := o.(metav1.Object); ok {
		m.SetManagedFields(nil)
	}
	return o, nil
}

// Run watches the API until ctx ends. Serve waits for its first lists.
func (p *Publisher) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	informers := []cache.SharedIndexInformer{p.pods, p.configMaps, p.secrets}
	for _, i := range informers {
		wg.Go(func() { i.RunWithContext(ctx) })
	}
	for _, i := range informers {
		select {
		case <-i.HasSyncedChecker().Done():
		case <-ctx.Done():
			return nil
		}
	}
	close(p.ready)
	p.log.Info("desired state is watched")
	<-ctx.Done()
	return nil
}

// Ready is closed when the first lists are in memory.
func (p *Publisher) Ready() <-chan struct{} { return p.ready }

// Pod gives a pod as the watch last saw it; the caller must not change it. The
// error is a NotFound API error. It is how package kubeletfront finds a pod's edge.
func (p *Publisher) Pod(namespace, name string) (*corev1.Pod, error) {
	return corelisters.NewPodLister(p.pods.GetIndexer()).Pods(namespace).Get(name)
}

// Serve works on one desired stream of the edge called node until it fails or
// ctx ends, and closes conn.
func (p *Publisher) Serve(ctx context.Context, node string, conn net.Conn) error {
	defer conn.Close() //nolint:errcheck // the stream is done, one way or the other
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	select {
	case <-p.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	s := newStream(p, node, conn)
	err := s.serve(ctx)
	p.log.Debug("desired stream ended", "edge", node, "error", err)
	return err
}

func (p *Publisher) podChanged(o any) {
	if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = d.Obj
	}
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.nodes[pod.Spec.NodeName] {
		s.mark(wire.ObjectKey(wire.ResourcePods, pod.Namespace, pod.Name))
	}
}

func (p *Publisher) namedChanged(r wire.Resource, o any) {
	if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = d.Obj
	}
	m, ok := o.(metav1.Object)
	if !ok {
		return
	}
	key := wire.ObjectKey(r, m.GetNamespace(), m.GetName())
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.users[key] {
		s.mark(key)
	}
}

func (p *Publisher) attach(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	enter(p.nodes, s.node, s)
}

func (p *Publisher) detach(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	leave(p.nodes, s.node, s)
	for key := range s.users {
		leave(p.users, key, s)
	}
}

// use and unuse say that s wants to hear of changes to key, and no longer.
func (p *Publisher) use(key string, s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	enter(p.users, key, s)
}

func (p *Publisher) unuse(key string, s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	leave(p.users, key, s)
}

func enter(m map[string]map[*stream]struct{}, key string, s *stream) {
	if m[key] == nil {
		m[key] = make(map[*stream]struct{})
	}
	m[key][s] = struct{}{}
}

func leave(m map[string]map[*stream]struct{}, key string, s *stream) {
	delete(m[key], s)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

// EdgeStatus tells how far one edge has been brought.
type EdgeStatus struct {
	Node string
	// Synced says that the edge was told everything at some moment of this stream.
	Synced bool
	// Queued counts keys that are yet to be looked at.
	Queued int
	// Sent and Stored are the last seq sent and the last one acknowledged as stored.
	Sent, Stored uint64
	// Lag is for how long the oldest change has been waiting for its
	// acknowledgement; zero when none does.
	Lag time.Duration
}

// Edges gives the status of every open stream, in order of the nodes' names.
func (p *Publisher) Edges() []EdgeStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []EdgeStatus
	for _, streams := range p.nodes {
		for s := range streams {
			all = append(all, s.status())
		}
	}
	slices.SortFunc(all, func(a, b EdgeStatus) int { return strings.Compare(a.Node, b.Node) })
	return all
}
