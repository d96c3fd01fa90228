package pods

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
	"github.com/skerry-io/skerry/edgeagent/pods/probe"
	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

const (
	// parallelPulls is two, so that one huge image does not hold up everything
	// and a thin line is still shared by few.
	parallelPulls = 2
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
	}
	vols, err := volumes.New(volumes.Config{
		StateDir: cfg.StateDir, Objects: cfg.Objects, Mounter: cfg.Mounter, Log: cfg.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("pods: %w", err)
	}
	return &Manager{
		env: &env{
			Config: cfg, cri: cfg.CRI, volumes: vols, prober: probe.New(cfg.CRI),
			pulls: make(chan struct{}, parallelPulls), runtimeName: "containerd",
		},
		bell:    make(chan struct{}, 1),
		pending: map[string]struct{}{},
		workers: map[types.UID]*worker{},
	}, nil
}

// Wake says that the object under a key of the desired state (pods/NS/NAME,
// configmaps/NS/NAME, secrets/NS/NAME, tokens/NS/POD/ID) may have changed, come
// or gone. It never blocks.
func (m *Manager) Wake(key string) {
	m.mu.Lock()
	m.pending[key] = struct{}{} // bounded by the number of objects
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
	if err := m.begin(ctx); err != nil {
		return nil // only the end of ctx makes begin give up
	}
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

// begin waits until store and runtime can be read, starts a worker for each pod
// in either, and clears what pods of former times have left on the host.
func (m *Manager) begin(ctx context.Context) error {
	for logged := false; ; {
		err := m.tryBegin(ctx)
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

func (m *Manager) tryBegin(ctx context.Context) error {
	desired, err := m.env.Objects.Pods()
	if err != nil {
		return fmt.Errorf("read desired pods: %w", err)
	}
	version, err := m.env.cri.Version(ctx)
	if err != nil {
		return err
	}
	m.env.runtimeName = version.Name
	found, err := m.fingerprints(ctx)
	if err != nil {
		return err
	}
	for _, pod := range desired {
		m.ensure(ctx, PodRef{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID})
	}
	for _, f := range found {
		m.ensure(ctx, f.ref)
	}
	m.env.Log.Info("managing pods", "desired", len(desired), "found", len(found), "runtime", version.Name, "runtime_version", version.Version)
	m.sweep()
	return nil
}

// ensure makes sure that a UID has a worker and returns it.
func (m *Manager) ensure(ctx context.Context, ref PodRef) *worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.workers[ref.UID]; w != nil {
		return w
	}
	w := newWorker(m.env, ref)
	m.workers[ref.UID] = w
	m.running.Go(func() {
		w.run(ctx)
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
			m.wakeUsers(namespace, func(pod *corev1.Pod) bool { return uses(pod, kind, name) })
		case "tokens":
			podName, _, _ := strings.Cut(name, "/")
			m.wakeUsers(namespace, func(pod *corev1.Pod) bool { return pod.Name == podName })
		}
	}
}

func (m *Manager) wakePod(ctx context.Context, key, namespace, name string) {
	pod, err := m.env.Objects.Pod(key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		m.env.Log.Error("pod not readable", "pod", name, "namespace", namespace, "error", err)
		// Its worker, if it has one, tries again by itself.
	}
	if err == nil {
		m.ensure(ctx, PodRef{Namespace: namespace, Name: name, UID: pod.UID})
	}
	m.each(func(w *worker) {
		if w.key == key {
			w.ring(true, false, false)
		}
	})
}

func (m *Manager) wakeUsers(namespace string, concerned func(*corev1.Pod) bool) {
	m.each(func(w *worker) {
		if w.ref.Namespace != namespace {
			return
		}
		if v := w.snapshotView(); v.pod == nil || concerned(v.pod) {
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

// uses says whether a pod reads a ConfigMap or Secret.
func uses(pod *corev1.Pod, kind, name string) bool {
	cm := kind == "configmaps"
	for i := range pod.Spec.Volumes {
		if volumeUses(&pod.Spec.Volumes[i], cm, name) {
			return true
		}
	}
	if !cm {
		for _, ref := range pod.Spec.ImagePullSecrets {
			if ref.Name == name {
				return true
			}
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if containerUses(&list[i], cm, name) {
				return true
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		if containerUses(&c, cm, name) {
			return true
		}
	}
	return false
}

func volumeUses(v *corev1.Volume, cm bool, name string) bool {
	switch {
	case v.ConfigMap != nil:
		return cm && v.ConfigMap.Name == name
	case v.Secret != nil:
		return !cm && v.Secret.SecretName == name
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if cm && s.ConfigMap != nil && s.ConfigMap.Name == name || !cm && s.Secret != nil && s.Secret.Name == name {
				return true
			}
		}
	}
	return false
}

func containerUses(c *corev1.Container, cm bool, name string) bool {
	for _, f := range c.EnvFrom {
		if cm && f.ConfigMapRef != nil && f.ConfigMapRef.Name == name || !cm && f.SecretRef != nil && f.SecretRef.Name == name {
			return true
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; cm && r != nil && r.Name == name {
			return true
		}
		if r := e.ValueFrom.SecretKeyRef; !cm && r != nil && r.Name == name {
			return true
		}
	}
	return false
}
