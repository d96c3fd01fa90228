package desired

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/dynamic"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skerry-io/skerry/cloudproxy/newest"
	"github.com/skerry-io/skerry/tunnel/dictionary"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// byNode is the name of the index of pods by spec.nodeName.
const byNode = "node"

// maxTokenRequests bounds the TokenRequests under way for all edges together, so
// that a fleet that comes back leaves the API server some air.
const maxTokenRequests = 16

// Config is what a Publisher needs.
type Config struct {
	// Client is required. It needs list and watch on pods, configmaps, secrets,
	// persistentvolumes, persistentvolumeclaims, services, runtimeclasses, nodes and, where
	// the cluster has them, clustertrustbundles and podcertificaterequests; get on pods, and create on serviceaccounts/token.
	Client kubernetes.Interface
	// Dynamic needs get, list and watch on devices and list and watch on devicemodels,
	// where the cluster has them. Nil means that edges get no Devices.
	Dynamic dynamic.Interface
	// Samples says that somebody takes samples of devices.
	Samples bool
	// Registerer takes the metrics; nil means none.
	Registerer prometheus.Registerer
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Publisher serves the desired streams of all edges from one set of watches.
type Publisher struct {
	client     kubernetes.Interface
	dynamic    dynamic.Interface
	samples    bool
	log        *slog.Logger
	pods       cache.SharedIndexInformer
	named      map[wire.Resource]cache.SharedIndexInformer // what pods name, Devices and what they name
	late       map[wire.Resource]bool                      // those that nobody waits for; settled when ready is closed
	ready      chan struct{}                               // closed when all others are synced
	tokenSlots chan struct{}
	// deviceLists has a value while all Devices are listed for an edge.
	deviceLists chan struct{}
	encoder     *dictionary.Encoder
	links       links

	streams newest.Streams

	mu    sync.Mutex           // guards the following fields
	nodes map[string]*stream   // node -> its stream
	users map[string][]*stream // key that a pod names -> streams that want it
}

// New builds the informers. Run starts them.
func New(cfg Config) (*Publisher, error) {
	if cfg.Client == nil {
		return nil, errors.New("desired config: Client is required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	encoder, err := dictionary.NewEncoder()
	if err != nil {
		return nil, fmt.Errorf("desired: %w", err)
	}
	p := &Publisher{
		encoder:     encoder,
		client:      cfg.Client,
		dynamic:     cfg.Dynamic,
		samples:     cfg.Samples,
		log:         cfg.Log,
		links:       links{made: make(map[string]value)},
		late:        make(map[wire.Resource]bool),
		ready:       make(chan struct{}),
		tokenSlots:  make(chan struct{}, maxTokenRequests),
		deviceLists: make(chan struct{}, 1),
		nodes:       make(map[string]*stream),
		users:       make(map[string][]*stream),
	}
	p.pods = coreinformers.NewFilteredPodInformer(cfg.Client, metav1.NamespaceAll, 0, cache.Indexers{byNode: indexByNode},
		func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermNotEqualSelector("spec.nodeName", "").String()
		})
	p.named = newNamed(cfg.Client)
	maps.Copy(p.named, newDefined(cfg.Dynamic))
	if err := p.watch(); err != nil {
		return nil, err
	}
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(newMetrics(p)); err != nil {
			return nil, fmt.Errorf("desired: register metrics: %w", err)
		}
	}
	return p, nil
}

func indexByNode(o any) ([]string, error) {
	if pod, ok := o.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
		return []string{pod.Spec.NodeName}, nil
	}
	if d, ok := o.(*defined); ok && d.node != "" {
		return []string{d.node}, nil
	}
	return nil, nil
}

func (p *Publisher) watch() error {
	if err := watch(p.pods, p.podChanged); err != nil {
		return err
	}
	for r, informer := range p.named {
		if err := watch(informer, func(o any) { p.namedChanged(r, o) }); err != nil {
			return err
		}
	}
	return nil
}

func watch(informer cache.SharedIndexInformer, changed func(o any)) error {
	if err := informer.SetTransform(strip); err != nil {
		return fmt.Errorf("desired: %w", err)
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: changed,
		// A pod that was deleted and made anew between two events may have moved.
		UpdateFunc: func(before, after any) { changed(before); changed(after) },
		DeleteFunc: changed,
	})
	if err != nil {
		return fmt.Errorf("desired: %w", err)
	}
	return nil
}

// Run watches the API until ctx ends. Serve waits for its first lists.
func (p *Publisher) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	informers := []cache.SharedIndexInformer{p.pods}
	for r, i := range p.named {
		if p.optional(ctx, r) {
			p.late[r] = true
			wg.Go(func() { p.runOptional(ctx, r, i) })
			continue
		}
		informers = append(informers, i)
	}
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

// Serve works on one desired stream of the edge called node until it fails, ctx
// ends or the edge opens another, and closes conn.
func (p *Publisher) Serve(ctx context.Context, node string, conn net.Conn) error {
	defer conn.Close() //nolint:errcheck // the stream is done, one way or the other
	ctx, leave := p.streams.Enter(ctx, node)
	defer leave()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	select {
	case <-p.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
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
	if s := p.nodes[pod.Spec.NodeName]; s != nil {
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
	if r == wire.ResourceServices {
		p.links.changed(m.GetNamespace())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signerChanged(m)
	p.requestChanged(m)
	p.deviceChanged(m)
	for _, key := range keysOf(r, m) {
		for _, s := range p.users[key] {
			s.mark(key)
		}
	}
}

func (p *Publisher) attach(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes[s.node] = s
}

func (p *Publisher) detach(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.nodes, s.node)
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

// enter and leave keep slices: most keys are of one stream, and a map for each
// would be most of what an object costs here.
func enter(m map[string][]*stream, key string, s *stream) {
	if !slices.Contains(m[key], s) {
		m[key] = append(m[key], s)
	}
}

func leave(m map[string][]*stream, key string, s *stream) {
	rest := m[key]
	if i := slices.Index(rest, s); i >= 0 {
		rest[i] = rest[len(rest)-1]
		rest[len(rest)-1] = nil
		rest = rest[:len(rest)-1]
	}
	if m[key] = rest; len(rest) == 0 {
		delete(m, key)
	}
}

// Edges gives the status of every open stream, in order of the nodes' names.
func (p *Publisher) Edges() []EdgeStatus {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []EdgeStatus
	for node, s := range p.nodes {
		st := s.status(now)
		st.Node = node
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b EdgeStatus) int { return strings.Compare(a.Node, b.Node) })
	return all
}

// Edge gives the status of an edge, and whether it has an open stream.
func (p *Publisher) Edge(node string) (EdgeStatus, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.nodes[node]
	if s == nil {
		return EdgeStatus{}, false
	}
	st := s.status(time.Now())
	st.Node = node
	return st, true
}
