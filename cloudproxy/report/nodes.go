package report

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// leaseInterval and leaseSeconds are a kubelet's.
	leaseInterval = 10 * time.Second
	leaseSeconds  = 40
	// leaseLatency is what a renewal may come late.
	leaseLatency = 1500 * time.Millisecond
	// startGrace is how long a proxy that has just started waits for edges to come
	// back, and for other replicas to renew the leases of those that are theirs.
	startGrace = 2*leaseInterval + 5*time.Second
	// conflictRetry is how soon a Node is looked at again that somebody else wrote to
	// at the same moment.
	conflictRetry = 200 * time.Millisecond
	// refusedRetry is how often a Node that is not ours is looked at again.
	refusedRetry = 5 * time.Minute
)

// Session is one connected edge.
type Session struct {
	Node  string
	Hello wire.Hello
	Since time.Time
}

// Sessions knows which edges are connected to this replica.
type Sessions interface {
	// Sessions gives them all, in any order.
	Sessions() []Session
	// Changed gives a channel that is closed, or receives a value, when an edge next
	// comes, goes or is replaced. It is asked for before Sessions.
	Changed() <-chan struct{}
}

// NodesConfig is what Nodes needs.
type NodesConfig struct {
	// Client needs get, list, watch, create and patch on nodes, patch on
	// nodes/status, get, create and patch on leases in kube-node-lease, get and list on
	// pods, patch on pods/status, and create on events.
	Client kubernetes.Interface
	// Sessions is required.
	Sessions Sessions
	// Addresses are those of the proxy, by which kube-apiserver reaches edges.
	Addresses []corev1.NodeAddress
	// Features are what Nodes declare beside what they declare already.
	Features []string
	// KubeletPort is the port beside them.
	KubeletPort int32
	// MetricsPath gives the path at which metrics-server finds a node's usage; nil
	// leaves it with a kubelet's.
	MetricsPath func(node string) string
	// Port gives a node a port of its own instead; nil means that none has one. While it
	// fails, a Node keeps what it shows.
	Port func(ctx context.Context, node string) (int32, error)
	// Annotations are more that a Node is to have while its edge is connected; nil
	// means none.
	Annotations func(node string) map[string]string
	// Condition is one that all Nodes are to show, if it is not nil; one that is True
	// only takes the place of one that was not. Nil means none.
	Condition func() *corev1.NodeCondition
	// Ask asks an edge for the status of its node; nil means that nobody does.
	Ask func(node string)
	// Grace is how long a session may be gone before its Node is marked; zero means
	// ten seconds, so that an edge that dials again is not noticed.
	Grace time.Duration
	// Workers bounds the requests under way; zero means 8.
	Workers int
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Nodes keeps the Node objects and leases of edges.
type Nodes struct {
	cfg      NodesConfig
	client   kubernetes.Interface
	log      *slog.Logger
	informer cache.SharedIndexInformer
	queue    workqueue.TypedDelayingInterface[string]
	draining atomic.Bool

	mu     sync.Mutex // guards the following fields
	states map[string]*nodeState
}

// nodeState is what is known of an edge beyond the API.
type nodeState struct {
	session *Session
	lost    time.Time // when the last session ended; zero while there is one
	grace   time.Duration
	renewed time.Time // last renewal of the lease
	seen    time.Time // what the lease said after it, or when it was last looked at
	repairs int       // how often pods are yet to be looked at after a return
	refused bool      // its Node is not ours, and was complained about
	noPort  bool      // it can't be given a port, and that was complained about
}

// NewNodes checks cfg.
func NewNodes(cfg NodesConfig) (*Nodes, error) {
	if cfg.Client == nil || cfg.Sessions == nil {
		return nil, errors.New("nodes config: Client and Sessions are required")
	}
	if cfg.Port == nil {
		cfg.Port = func(context.Context, string) (int32, error) { return cfg.KubeletPort, nil }
	}
	if cfg.Condition == nil {
		cfg.Condition = func() *corev1.NodeCondition { return nil }
	}
	if cfg.Ask == nil {
		cfg.Ask = func(string) {}
	}
	if cfg.Grace == 0 {
		cfg.Grace = 10 * time.Second
	}
	if cfg.Workers == 0 {
		cfg.Workers = 8
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Nodes{
		cfg: cfg, client: cfg.Client, log: cfg.Log,
		informer: coreinformers.NewFilteredNodeInformer(cfg.Client, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
			o.LabelSelector = LabelEdge + "=true"
		}),
		states: make(map[string]*nodeState),
	}, nil
}

// Run keeps Nodes until ctx ends.
func (n *Nodes) Run(ctx context.Context) error {
	queue := workqueue.NewTypedDelayingQueue[string]()
	n.mu.Lock()
	n.queue = queue
	n.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer queue.ShutDown()
	started := time.Now()
	if _, err := n.informer.AddEventHandler(n.handler(started)); err != nil {
		return err
	}
	wg.Go(func() { n.informer.RunWithContext(ctx) })
	select {
	case <-n.informer.HasSyncedChecker().Done():
	case <-ctx.Done():
		return nil
	}
	for range n.cfg.Workers {
		wg.Go(func() { n.work(ctx) })
	}
	// The reports of edges that are here already may have come before the Nodes were
	// read, which then don't show that they had been marked.
	repairs := repairsAfterReturn
	for {
		changed := n.cfg.Sessions.Changed()
		n.note(time.Now(), repairs)
		repairs = 0
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Drain is for a proxy that is about to stop: it keeps the leases of edges that are
// still here and leaves Nodes to the replica that they go to. Without another one,
// they are marked by whoever comes next.
func (n *Nodes) Drain() { n.draining.Store(true) }

// Refresh looks at an edge's Node soon, since something has changed of what it says.
func (n *Nodes) Refresh(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.queue != nil { // else it is looked at when Run begins
		n.queue.Add(node)
	}
}

// hold renews the lease of an edge that has a session, and does nothing else.
func (n *Nodes) hold(ctx context.Context, name string, st nodeState) (time.Duration, error) {
	o, ok, err := n.informer.GetIndexer().GetByKey(name)
	if node, isNode := o.(*corev1.Node); err == nil && ok && isNode && Owned(node) && st.session != nil {
		if err := n.renewInTime(ctx, node, st); err != nil {
			return 0, err
		}
	}
	return jitter(leaseInterval), err
}

// owns says whether a Node is an edge's, by what the watch last saw.
func (n *Nodes) owns(name string) bool {
	o, ok, err := n.informer.GetIndexer().GetByKey(name)
	node, isNode := o.(*corev1.Node)
	return err == nil && ok && isNode && Owned(node)
}

// onNode has seen called with the name of each Node of an edge that appears.
func (n *Nodes) onNode(seen func(node string)) error {
	_, err := n.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(o any) {
		if node, ok := o.(*corev1.Node); ok && Owned(node) {
			seen(node.Name)
		}
	}})
	return err
}

// handler looks at Nodes that appear, at the start above all, at those whose edge
// is back, and at those that are deleted while their edge is connected.
func (n *Nodes) handler(started time.Time) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) {
			node, ok := o.(*corev1.Node)
			if !ok || !Owned(node) {
				return
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.states[node.Name] == nil {
				n.states[node.Name] = &nodeState{lost: started, grace: startGrace}
			}
			n.queue.Add(node.Name)
		},
		UpdateFunc: func(before, after any) {
			was, ok1 := before.(*corev1.Node)
			is, ok2 := after.(*corev1.Node)
			if ok1 && ok2 {
				n.sawChange(was, is)
			}
		},
		DeleteFunc: func(o any) {
			if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = d.Obj
			}
			if node, ok := o.(*corev1.Node); ok {
				n.queue.Add(node.Name)
			}
		},
	}
}

// note compares the sessions with those known. The pods of edges that are new are
// looked at as often as repairs says at least.
func (n *Nodes) note(now time.Time, repairs int) {
	sessions := make(map[string]Session)
	for _, s := range n.cfg.Sessions.Sessions() {
		sessions[s.Node] = s
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for node, s := range sessions {
		st := n.states[node]
		if st == nil {
			st = &nodeState{}
			n.states[node] = st
		}
		if st.session == nil || !st.session.Since.Equal(s.Since) {
			st.session, st.lost, st.refused = &s, time.Time{}, false
			st.repairs = max(st.repairs, repairs)
			if bad := refused(&s); len(bad) > 0 {
				n.log.Warn("labels or taints of an edge are not allowed", "edge", node, "count", len(bad), "first", bad[0][:min(len(bad[0]), 100)])
			}
			n.queue.Add(node)
		}
	}
	for node, st := range n.states {
		if _, ok := sessions[node]; !ok && st.session != nil {
			st.session, st.lost, st.grace = nil, now, n.cfg.Grace
			n.queue.Add(node)
		}
	}
}

func (n *Nodes) work(ctx context.Context) {
	for {
		node, shutdown := n.queue.Get()
		if shutdown {
			return
		}
		next, err := n.reconcile(ctx, node)
		switch {
		case apierrors.IsConflict(err):
			// The node controller is at work on a new Node at the same moment.
			n.log.Debug("node has changed meanwhile", "edge", node, "error", err)
			next = jitter(conflictRetry)
		case err != nil:
			if ctx.Err() == nil {
				n.log.Warn("node can't be brought up to date", "edge", node, "error", err)
			}
			next = jitter(leaseInterval / 2)
		}
		if next > 0 && ctx.Err() == nil {
			n.queue.AddAfter(node, next)
		}
		n.queue.Done(node)
	}
}

// jitter spreads d by a tenth both ways: edges that came together must not stay
// in step.
func jitter(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5) }

// state gives a copy of what is known of an edge.
func (n *Nodes) state(node string) (nodeState, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.states[node]
	if st == nil {
		return nodeState{}, false
	}
	return *st, true
}

func (n *Nodes) change(node string, f func(st *nodeState)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if st := n.states[node]; st != nil {
		f(st)
	}
}

// reconcile brings one Node up to date and says when to look again, zero for
// never.
func (n *Nodes) reconcile(ctx context.Context, node string) (time.Duration, error) {
	st, ok := n.state(node)
	if !ok {
		return 0, nil
	}
	if n.draining.Load() {
		return n.hold(ctx, node, st)
	}
	if st.session != nil {
		return n.online(ctx, node, st)
	}
	return n.offline(ctx, node, st)
}
