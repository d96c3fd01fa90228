package eviction

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/demand"
)

const (
	// interval is how often the machine is looked at, the kubelet's.
	interval = 10 * time.Second
	// localInterval is how often pods with limits of their own are measured: that may
	// mean to walk through many files.
	localInterval = time.Minute
	// endPatience is how long the end of a pod is waited for before the next may be
	// chosen, and endPoll how often it is looked for.
	endPatience = 30 * time.Second
	endPoll     = time.Second
	// hardGrace is what a pod has to stop when there is no time.
	hardGrace = time.Second
	// defaultTransition is how long a pressure is told after it was last seen.
	defaultTransition = 5 * time.Minute

	reasonEvicted = "Evicted"
)

// Pods are those that run here.
type Pods interface {
	// Active gives the pods that have been admitted and are not ending. They are
	// shared: nobody changes them.
	Active() []*corev1.Pod
	// Evict ends a pod for good; disruption is the message of its condition, empty
	// for none. It says whether there is such a pod. A nil grace is the pod's own.
	Evict(uid types.UID, reason, message string, grace *time.Duration, disruption string) bool
	// Ended says that nothing of a pod runs any more, and that its volumes are gone.
	Ended(uid types.UID) bool
}

// Reclaimer gives back what nobody uses. Each may be nil.
type Reclaimer struct {
	Images, Containers func(ctx context.Context) error
}

// Config is what a Manager needs.
type Config struct {
	// Pods and Usage are required. Usage measures pods; one that it leaves out could
	// not be. Volumes are wanted only where the disk matters: to walk through their
	// files takes minutes on a slow one, and who is out of memory can't wait for that.
	Pods  Pods
	Usage func(ctx context.Context, pods []*corev1.Pod, volumes bool) (map[types.UID]*Usage, error)
	// Thresholds are what Parse gives.
	Thresholds []Threshold
	// Transition is how long a pressure is told after it was last seen; zero means five
	// minutes.
	Transition time.Duration
	// MaxPodGrace bounds what a pod has to stop when a soft threshold ends it.
	MaxPodGrace time.Duration
	// Reclaim is tried before pods are ended for want of disk.
	Reclaim Reclaimer
	// NodeEvent takes events about the node. May be nil.
	NodeEvent func(kind, reason, message string)
	// DataDir is on the file system of the node, ImageDir gives a path on that of
	// images; nil means the same.
	DataDir  string
	ImageDir func(ctx context.Context) (string, error)
	// Root is the machine's file system, of which /proc is read, and Disk measures one;
	// nil means the machine's own.
	Root fs.FS
	Disk func(path string) (Disk, error)
	// Log gets what is done. Nil discards.
	Log *slog.Logger
}

// Manager ends pods when the machine runs short.
type Manager struct {
	cfg     Config
	log     *slog.Logger
	machine machine

	state  *State        // of who looks at the machine
	giving atomic.Bool   // pods beyond their limits are ending
	looked chan struct{} // closed when the machine has been measured once

	mu         sync.Mutex // guards the following fields
	conditions []corev1.NodeConditionType
}

// New checks cfg. Nothing is measured before Run.
func New(cfg Config) (*Manager, error) {
	if cfg.Pods == nil || cfg.Usage == nil {
		return nil, errors.New("eviction config: Pods and Usage are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Transition == 0 {
		cfg.Transition = defaultTransition
	}
	if cfg.Root == nil {
		cfg.Root = os.DirFS("/")
	}
	if cfg.Disk == nil {
		cfg.Disk = statfs
	}
	if cfg.NodeEvent == nil {
		cfg.NodeEvent = func(string, string, string) {}
	}
	return &Manager{
		cfg: cfg, log: cfg.Log, state: newState(cfg.Thresholds, cfg.Transition), looked: make(chan struct{}),
		machine: machine{root: cfg.Root, disk: cfg.Disk, dataDir: cfg.DataDir, imageDir: cfg.ImageDir, log: cfg.Log},
	}, nil
}

// Conditions are the pressures that the node is under.
func (m *Manager) Conditions() []corev1.NodeConditionType {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conditions
}

// Run looks at the machine, and at the limits of pods, until ctx ends. For limits all
// files of volumes may have to be walked through, which takes minutes on a slow disk:
// a machine without memory can't wait for that.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { m.watchMachine(ctx); return nil })
	g.Go(func() error { m.watchLimits(ctx); return nil })
	return g.Wait()
}

func (m *Manager) watchMachine(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		gone := m.look(ctx)
		if first {
			close(m.looked)
		}
		if len(gone) > 0 {
			m.awaitEnd(ctx, gone)
			timer.Reset(0)
			continue
		}
		timer.Reset(interval)
	}
}

// watchLimits begins when it is known which disks there are.
func (m *Manager) watchLimits(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-m.looked:
	}
	tick := time.NewTicker(localInterval)
	defer tick.Stop()
	for {
		if gone := m.overLimits(ctx); len(gone) > 0 {
			m.giving.Store(true)
			m.awaitEnd(ctx, gone)
			m.giving.Store(false)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look measures once and does what has to be done. It gives the pods that it ended.
func (m *Manager) look(ctx context.Context) []types.UID {
	now := time.Now()
	sample := m.machine.sample(ctx)
	due := m.state.step(now, sample)
	conditions := m.state.conditions(now)
	m.mu.Lock()
	m.conditions = conditions
	m.mu.Unlock()
	if len(due) == 0 {
		return nil
	}
	t := due[0]
	if m.giving.Load() && t.Signal.condition() == corev1.NodeDiskPressure {
		return nil // first see what pods beyond their limits give back
	}
	m.log.Warn("node runs short", "resource", t.Signal.resource(), "signal", t.Signal, "available", sample[t.Signal].Available)
	m.cfg.NodeEvent(corev1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim "+string(t.Signal.resource()))
	if m.reclaim(ctx, t.Signal) && m.state.enough(m.machine.sample(ctx)) {
		m.log.Info("enough was reclaimed without ending pods", "resource", t.Signal.resource())
		return nil
	}
	return m.endOne(ctx, t, sample)
}

// reclaim gives back what nobody uses, if that helps. It says whether it tried.
func (m *Manager) reclaim(ctx context.Context, s Signal) bool {
	switch s {
	case ImageFSAvailable, ImageFSInodes:
	case NodeFSAvailable, NodeFSInodes:
		if m.machine.dedicated.Load() {
			return false
		}
	default:
		return false
	}
	tried := false
	for _, f := range []func(context.Context) error{m.cfg.Reclaim.Containers, m.cfg.Reclaim.Images} {
		if f == nil {
			continue
		}
		tried = true
		if err := f(ctx); err != nil {
			m.log.Warn("reclaiming failed", "signal", s, "error", err)
		}
	}
	return tried
}

// endOne ends the pod that should go first.
func (m *Manager) endOne(ctx context.Context, t Threshold, sample Sample) []types.UID {
	active := slices.Clone(m.cfg.Pods.Active())
	if len(active) == 0 {
		m.log.Warn("node runs short and there is no pod to end", "signal", t.Signal)
		return nil
	}
	used, err := m.cfg.Usage(ctx, active, t.Signal.condition() == corev1.NodeDiskPressure)
	if err != nil {
		m.log.Warn("pods can't be measured", "error", err)
		return nil
	}
	rank(active, used, t.Signal, m.machine.dedicated.Load())
	for _, pod := range active {
		grace := hardGrace
		if t.Grace > 0 {
			grace = m.cfg.MaxPodGrace
			if own := pod.Spec.TerminationGracePeriodSeconds; own != nil {
				grace = min(grace, time.Duration(*own)*time.Second)
			}
		}
		text := message(t, pod, used[pod.UID], sample)
		if m.evict(pod, text, grace, text) {
			return []types.UID{pod.UID}
		}
	}
	m.log.Warn("node runs short and no pod may be ended", "signal", t.Signal)
	return nil
}

// overLimits ends the pods that take more of the disk than they may.
func (m *Manager) overLimits(ctx context.Context) (gone []types.UID) {
	var some []*corev1.Pod
	for _, pod := range m.cfg.Pods.Active() {
		if limited(pod) {
			some = append(some, pod)
		}
	}
	if len(some) == 0 {
		return nil
	}
	used, err := m.cfg.Usage(ctx, some, true)
	if err != nil {
		m.log.Warn("pods can't be measured", "error", err)
		return nil
	}
	for _, pod := range some {
		u := used[pod.UID]
		if u == nil {
			continue
		}
		if text := exceeded(pod, u, m.machine.dedicated.Load()); text != "" && m.evict(pod, text, hardGrace, "") {
			gone = append(gone, pod.UID)
		}
	}
	return gone
}

// evict ends a pod, unless the node is not whole without it.
func (m *Manager) evict(pod *corev1.Pod, text string, grace time.Duration, disruption string) bool {
	if demand.Critical(pod) {
		m.log.Debug("a critical pod is not evicted", "pod", pod.Name, "namespace", pod.Namespace)
		return false
	}
	m.log.Info("evicting pod", "pod", pod.Name, "namespace", pod.Namespace, "message", text)
	return m.cfg.Pods.Evict(pod.UID, reasonEvicted, text, &grace, disruption)
}

// awaitEnd waits for the end of pods, for a while: what they held is there only then.
func (m *Manager) awaitEnd(ctx context.Context, pods []types.UID) {
	deadline := time.Now().Add(endPatience)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(endPoll):
		}
		pods = slices.DeleteFunc(pods, m.cfg.Pods.Ended)
		if len(pods) == 0 || !time.Now().Before(deadline) {
			return
		}
	}
}
