package pods

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups/systemd"
	"github.com/skerry-io/skerry/edgeagent/pods/probe"
	"github.com/skerry-io/skerry/edgeagent/pods/userns"
	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

const (
	// defaultParallelPulls is two, so that one huge image does not hold up everything
	// and a thin line is still shared by few.
	defaultParallelPulls = 2
	// startRetryPause is the pause while the store or the runtime cannot be read
	// at start.
	startRetryPause = time.Second
)

// Manager runs the pods of this node.
type Manager struct {
	env  *env
	bell chan struct{}

	mu      sync.Mutex // guards the following fields
	pending map[string]struct{}
	workers map[types.UID]*worker
	missed  map[string]struct{}      // keys of pods that came before begun
	begun   bool                     // all desired pods are known: what else runs here may be removed
	changes map[string]*objectChange // the last one of each key that not all show
	running sync.WaitGroup
}

// New returns a Manager. Nothing happens before Run.
func New(cfg Config) (*Manager, error) {
	cfg, err := cfg.fill()
	if err != nil {
		return nil, err
	}
	if cfg.Cgroups == nil {
		tree, err := cgroups.Open(cgroupMount)
		if err != nil {
			return nil, fmt.Errorf("pods: %w", err)
		}
		cfg.Cgroups = tree
		if cfg.Groups.Driver == cgroups.Systemd {
			cfg.Cgroups = systemd.New(tree, "")
		}
	}
	vols, err := volumes.New(volumes.Config{
		StateDir: cfg.StateDir, Objects: cfg.Objects, Bundles: cfg.Bundles, Certificates: cfg.Certificates, Mounter: cfg.Mounter, Log: cfg.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("pods: %w", err)
	}
	m := &Manager{
		env: &env{
			Config: cfg, cri: cfg.CRI, volumes: vols, prober: probe.New(cfg.CRI), ranges: userns.New(vols, cfg.Users),
			starts: newTurns(maxStarts(), turnLease), pulls: newTurns(cfg.ParallelPulls, 0), runtimeName: "containerd",
		},
		bell:    make(chan struct{}, 1),
		pending: map[string]struct{}{},
		missed:  map[string]struct{}{},
		workers: map[types.UID]*worker{},
		changes: map[string]*objectChange{},
	}
	m.env.keepLedger(m)
	return m, nil
}

// Wake says that the object under a key of the desired state (pods/NS/NAME,
// configmaps/NS/NAME, secrets/NS/NAME, tokens/NS/POD/ID) may have changed, come
// or gone. It never blocks.
func (m *Manager) Wake(key string) {
	m.mu.Lock()
	m.pending[key] = struct{}{} // bounded by the number of objects
	delete(m.changes, key)
	m.mu.Unlock()
	select {
	case m.bell <- struct{}{}:
	default:
	}
}

// Run runs the pods until ctx ends. It leaves the containers running: the next
// agent adopts them.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer m.running.Wait()
	defer cancel()
	if m.retry(ctx, m.findRuntime) != nil {
		return nil // only the end of ctx makes it give up
	}
	m.env.enforce()
	m.running.Go(func() {
		if m.retry(ctx, m.begin) == nil {
			m.sweeper(ctx)
		}
	})
	m.running.Go(func() { m.relist(ctx) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.bell:
			m.dispatch(ctx)
		}
	}
}

// retry tries a step of the beginning until it works.
func (m *Manager) retry(ctx context.Context, step func(context.Context) error) error {
	for logged := false; ; {
		err := step(ctx)
		if err == nil {
			return nil
		}
		if !logged && ctx.Err() == nil {
			logged = true
			m.env.Log.Warn("pods can not be managed yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(startRetryPause):
		}
	}
}

func (m *Manager) findRuntime(ctx context.Context) error {
	version, err := m.env.cri.Version(ctx)
	if err != nil {
		return err
	}
	m.env.runtimeName, m.env.noImages = version.Name, lacksImageVolumes(version)
	m.env.Log.Info("container runtime", "runtime", version.Name, "runtime_version", version.Version)
	return nil
}

// begin starts a worker for each pod of store and runtime, and clears what pods of
// former times have left on the host. While the store does not have all, only pods
// that do not come from there are started.
func (m *Manager) begin(ctx context.Context) error {
	desired, err := m.env.Objects.Pods()
	if err != nil {
		for _, pod := range desired {
			m.start(ctx, pod)
		}
		return fmt.Errorf("read desired pods: %w", err)
	}
	found, err := m.fingerprints(ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(desired, func(a, b *corev1.Pod) int { return cmp.Compare(priority(b), priority(a)) })
	m.env.starts.expect(desired, bootHold)
	wanted := make(map[types.UID]bool, len(desired))
	for _, pod := range desired {
		wanted[pod.UID] = true
		m.env.ledger.restore(pod)
	}
	for _, f := range found {
		if !wanted[f.ref.UID] {
			m.ensure(ctx, f.ref)
		}
	}
	for _, pod := range desired {
		m.start(ctx, pod)
	}
	m.env.Log.Info("managing pods", "desired", len(desired), "found", len(found))
	left := m.leftovers()
	m.remove(left, left)
	m.mu.Lock()
	m.begun = true
	missed := m.missed
	m.missed = nil
	m.mu.Unlock()
	for key := range missed {
		m.Wake(key)
	}
	return nil
}

// start makes sure that a desired pod has a worker. A static pod waits for the end
// of the one whose file it was before: they share ports, and the name.
func (m *Manager) start(ctx context.Context, pod *corev1.Pod) {
	if static(pod) && m.replaces(pod) {
		m.env.starts.settle(pod.UID)
		return // the end of that one wakes the key
	}
	m.ensure(ctx, PodRef{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID})
}

// replaces says whether another pod of its name has a worker.
func (m *Manager) replaces(pod *corev1.Pod) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for uid, w := range m.workers {
		if uid != pod.UID && w.ref.Namespace == pod.Namespace && w.ref.Name == pod.Name {
			return true
		}
	}
	return false
}

func (m *Manager) hasBegun() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.begun
}

// mayStart says whether all desired pods are known. If not, key is looked at again
// when they are: begin may have read them before it came.
func (m *Manager) mayStart(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.begun {
		m.missed[key] = struct{}{}
	}
	return m.begun
}

// ensure makes sure that a UID has a worker and returns it.
func (m *Manager) ensure(ctx context.Context, ref PodRef) *worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.workers[ref.UID]; w != nil {
		return w
	}
	w := newWorker(m.env, ref)
	w.shown = m.shown
	m.workers[ref.UID] = w
	m.running.Go(func() {
		w.run(ctx)
		m.env.starts.settle(ref.UID)
		if ctx.Err() == nil {
			m.env.ledger.drop(ref.UID)
		}
		m.env.probes.forget(ref.UID)
		w.release()
		m.mu.Lock()
		delete(m.workers, ref.UID)
		m.mu.Unlock()
		// Whoever took this worker's end for its life is told again.
		if ctx.Err() == nil {
			m.Wake(w.key)
		}
	})
	return w
}

// dispatch wakes the workers that the pending keys are about.
func (m *Manager) dispatch(ctx context.Context) {
	m.mu.Lock()
	keys := m.pending
	m.pending = map[string]struct{}{}
	m.mu.Unlock()
	for key := range keys {
		kind, rest, _ := strings.Cut(key, "/")
		namespace, name, _ := strings.Cut(rest, "/")
		switch kind {
		case "pods":
			m.wakePod(ctx, key, namespace, name)
		case "configmaps", "secrets":
			m.wakeUsers(key, namespace, func(pod *corev1.Pod) bool { return uses(pod, kind, name) })
		case "persistentvolumeclaims":
			m.wakeUsers(key, namespace, func(pod *corev1.Pod) bool { return volumes.Claimed(pod, name) })
		case "persistentvolumes":
			m.wakeUsers(key, "", func(pod *corev1.Pod) bool { return volumes.Claimed(pod, "") })
		case "clustertrustbundles":
			m.wakeUsers(key, "", volumes.ShowsBundles)
		case "runtimeclasses":
			m.wakeUsers(key, "", func(pod *corev1.Pod) bool {
				class := pod.Spec.RuntimeClassName
				return class != nil && "runtimeclasses/"+*class == key
			})
		case "podcertificaterequests":
			m.wakeUsers(key, namespace, volumes.ShowsCertificates)
		case "services", "servicelinks":
			// Read when a container starts.
			m.env.Steps.Object(key)
		case "nodes":
			// Read when a pod is taken; and tells whether there are certificates for pods.
			m.env.Steps.Object(key)
			m.wakeSuch(volumes.ShowsCertificates)
		case "tokens":
			podName, _, _ := strings.Cut(name, "/")
			m.wakeUsers(key, namespace, func(pod *corev1.Pod) bool { return pod.Name == podName })
		}
	}
}

func (m *Manager) wakePod(ctx context.Context, key, namespace, name string) {
	pod, err := m.env.Objects.Pod(key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		m.env.Log.Error("pod not readable", "pod", name, "namespace", namespace, "error", err)
		// Its worker, if it has one, tries again by itself.
	}
	if err == nil && (static(pod) || m.mayStart(key)) {
		m.start(ctx, pod)
	}
	m.each(func(w *worker) {
		if w.key == key {
			w.ring(true, false, false)
		}
	})
}

// wakeUsers wakes the workers of the pods that an object concerns; one without a
// namespace may concern those of any.
func (m *Manager) wakeUsers(key, namespace string, concerned func(*corev1.Pod) bool) {
	var users []*worker
	m.each(func(w *worker) {
		if namespace != "" && w.ref.Namespace != namespace {
			return
		}
		if v := w.snapshotView(); v.pod == nil || concerned(v.pod) {
			users = append(users, w)
		}
	})
	c := m.changed(key, len(users))
	for _, w := range users {
		w.show(c)
	}
	m.shown(c) // the one that stood for the loop above
}

// wakeSuch wakes the workers of such pods for what their volumes show.
func (m *Manager) wakeSuch(such func(*corev1.Pod) bool) {
	m.each(func(w *worker) {
		if v := w.snapshotView(); v.pod != nil && such(v.pod) {
			w.ring(false, true, false)
		}
	})
}

// each calls f for all workers, without the lock.
func (m *Manager) each(f func(*worker)) {
	m.mu.Lock()
	all := make([]*worker, 0, len(m.workers))
	for _, w := range m.workers {
		all = append(all, w)
	}
	m.mu.Unlock()
	for _, w := range all {
		f(w)
	}
}
