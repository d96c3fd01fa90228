package ports

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// ConfigMapName is the ConfigMap with the port of each node.
const ConfigMapName = "skerry-ports"

// tries bounds how often a write is tried when others write, too.
const tries = 20

// Range is the ports that may be given, both ends included.
type Range struct{ First, Last uint16 }

// ParseRange reads FIRST-LAST.
func ParseRange(s string) (Range, error) {
	first, last, ok := strings.Cut(s, "-")
	f, err1 := strconv.ParseUint(first, 10, 16)
	l, err2 := strconv.ParseUint(last, 10, 16)
	if !ok || err1 != nil || err2 != nil || f < 1024 || l < f {
		return Range{}, fmt.Errorf("%q is not FIRST-LAST, two ports from 1024 to 65535", s)
	}
	return Range{uint16(f), uint16(l)}, nil
}

// Contains says whether a port is in the range.
func (r Range) Contains(port int) bool { return port >= int(r.First) && port <= int(r.Last) }

// Config is what Ports needs.
type Config struct {
	// Client needs create on configmaps, and get, list, watch and update on the
	// ConfigMap. Required.
	Client kubernetes.Interface
	// Namespace is the ConfigMap's. Required.
	Namespace string
	// Range is from where ports are given. Required.
	Range Range
	// Log nil discards.
	Log *slog.Logger
}

// Ports knows the port of each node.
type Ports struct {
	cfg Config
	log *slog.Logger

	mu      sync.Mutex // guards the following fields
	seen    map[string]int
	given   map[string]int // by us, and not in seen yet
	nodes   map[int]string // of seen and given
	changed chan struct{}
}

// New checks cfg and asks nobody anything.
func New(cfg Config) (*Ports, error) {
	if cfg.Client == nil || cfg.Namespace == "" || cfg.Range == (Range{}) {
		return nil, errors.New("ports: Client, Namespace and Range are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Ports{cfg: cfg, log: cfg.Log, given: map[string]int{}, changed: make(chan struct{})}, nil
}

// Run follows the ConfigMap until ctx ends. While the API is away the ports are
// those that were last seen.
func (p *Ports) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(p.cfg.Client, 0, informers.WithNamespace(p.cfg.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", ConfigMapName).String()
		}))
	informer := factory.Core().V1().ConfigMaps().Informer()
	see := func(o any) {
		if cm, ok := o.(*corev1.ConfigMap); ok && cm.Name == ConfigMapName {
			p.see(cm.Data)
		}
	}
	// If it is deleted, ports stay whose they are until it is made again.
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: see, UpdateFunc: func(_, o any) { see(o) }})
	if err != nil {
		return fmt.Errorf("follow the ports of nodes: %w", err)
	}
	informer.RunWithContext(ctx)
	return nil
}

// Node tells whose a port is.
func (p *Ports) Node(port int) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	node, ok := p.nodes[port]
	return node, ok
}

// Ports gives all ports, and a channel that is closed when they change.
func (p *Ports) Ports() ([]int, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.nodes)), p.changed
}

// Port gives a node its port.
func (p *Ports) Port(ctx context.Context, node string) (int32, error) {
	p.mu.Lock()
	port, ok := p.seen[node]
	if !ok {
		port, ok = p.given[node]
	}
	p.mu.Unlock()
	if ok {
		return int32(port), nil
	}
	port, err := p.give(ctx, node)
	if err != nil {
		return 0, fmt.Errorf("give node %s a port: %w", node, err)
	}
	return int32(port), nil
}

// see takes what the ConfigMap says.
func (p *Ports) see(data map[string]string) {
	all := p.parse(data)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = all
	for node := range p.given {
		if _, ok := all[node]; ok {
			delete(p.given, node)
		}
	}
	p.changedLocked()
}

func (p *Ports) changedLocked() {
	nodes := make(map[int]string, len(p.seen)+len(p.given))
	for _, m := range []map[string]int{p.seen, p.given} {
		for node, port := range m {
			nodes[port] = node
		}
	}
	if maps.Equal(nodes, p.nodes) {
		return
	}
	p.nodes = nodes
	close(p.changed)
	p.changed = make(chan struct{})
}

// parse leaves out what can't be: a port out of range, or a second node's. People
// may write there, too.
func (p *Ports) parse(data map[string]string) map[string]int {
	all, taken := make(map[string]int, len(data)), make(map[int]bool, len(data))
	for _, node := range slices.Sorted(maps.Keys(data)) {
		port, err := strconv.Atoi(data[node])
		if err != nil || !p.cfg.Range.Contains(port) || taken[port] {
			continue
		}
		all[node], taken[port] = port, true
	}
	return all
}

// give writes a node's port.
func (p *Ports) give(ctx context.Context, node string) (int, error) {
	cms := p.cfg.Client.CoreV1().ConfigMaps(p.cfg.Namespace)
	for range tries {
		cm, err := cms.Get(ctx, ConfigMapName, metav1.GetOptions{})
		missing := apierrors.IsNotFound(err)
		switch {
		case missing:
			cm = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
				Namespace: p.cfg.Namespace, Name: ConfigMapName, Labels: map[string]string{"app.kubernetes.io/part-of": "skerry"},
			}}
		case err != nil:
			return 0, fmt.Errorf("get configmap %s: %w", ConfigMapName, err)
		}
		all := p.parse(cm.Data)
		port, ok := all[node]
		if !ok {
			if port, err = p.free(ctx, all); err != nil {
				return 0, err
			}
			all[node] = port
			cm.Data = make(map[string]string, len(all))
			for n, port := range all {
				cm.Data[n] = strconv.Itoa(port)
			}
			if missing {
				_, err = cms.Create(ctx, cm, metav1.CreateOptions{})
			} else {
				_, err = cms.Update(ctx, cm, metav1.UpdateOptions{})
			}
			if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
				continue
			}
			if err != nil {
				return 0, fmt.Errorf("write configmap %s: %w", ConfigMapName, err)
			}
			p.log.Info("node has got a port", "edge", node, "port", port)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.given[node] = port
		p.changedLocked()
		return port, nil
	}
	return 0, fmt.Errorf("configmap %s changes faster than it can be written", ConfigMapName)
}

// free finds a port. When all are taken it removes from all what belongs to Nodes
// that are gone.
func (p *Ports) free(ctx context.Context, all map[string]int) (int, error) {
	if port := p.unused(all); port != 0 {
		return port, nil
	}
	nodes, err := p.cfg.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("list nodes: %w", err)
	}
	there := make(map[string]bool, len(nodes.Items))
	for i := range nodes.Items {
		there[nodes.Items[i].Name] = true
	}
	maps.DeleteFunc(all, func(node string, _ int) bool { return !there[node] })
	if port := p.unused(all); port != 0 {
		return port, nil
	}
	return 0, fmt.Errorf("all %d ports of --node-ports are taken: give it a wider range", len(all))
}

func (p *Ports) unused(all map[string]int) int {
	taken := make(map[int]bool, len(all))
	for _, port := range all {
		taken[port] = true
	}
	for port := int(p.cfg.Range.First); p.cfg.Range.Contains(port); port++ {
		if !taken[port] {
			return port
		}
	}
	return 0
}
