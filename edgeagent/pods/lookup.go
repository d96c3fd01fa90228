package pods

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// ContainerRuntime is one container of a pod as the runtime has it.
type ContainerRuntime struct {
	Name         string
	ID           string
	State        cri.ContainerState
	RestartCount int32
	// LogPath is the log of this instance. A container that writes to it now has
	// state Running.
	LogPath string
	// PreviousID and PreviousLogPath are those of the instance before; empty if
	// there is none, or none left.
	PreviousID, PreviousLogPath string
}

// PodRuntime is a pod as the runtime has it.
type PodRuntime struct {
	UID        types.UID
	SandboxID  string
	IPs        []string
	Containers []ContainerRuntime
	// Pod is the desired pod. It is shared: do not change it.
	Pod *corev1.Pod
}

// Container returns the container of that name.
func (p *PodRuntime) Container(name string) (ContainerRuntime, bool) {
	for _, c := range p.Containers {
		if c.Name == name {
			return c, true
		}
	}
	return ContainerRuntime{}, false
}

// Lookup finds a pod by namespace and name and, unless it is empty, UID. Of two
// pods of one name, as while one replaces the other, it prefers the desired one.
func (m *Manager) Lookup(namespace, name string, uid types.UID) (PodRuntime, bool) {
	w := m.worker(namespace, name, uid)
	if w == nil {
		return PodRuntime{}, false
	}
	v := w.snapshotView()
	out := PodRuntime{UID: w.ref.UID, Pod: v.pod}
	if v.obs == nil {
		return out, true
	}
	if s := v.obs.sandbox(); s != nil {
		out.SandboxID = s.ID
	}
	out.IPs = v.obs.ips
	seen := map[string]int{}
	for i := range v.obs.containers {
		c := &v.obs.containers[i]
		at, ok := seen[c.name]
		if !ok {
			seen[c.name] = len(out.Containers)
			out.Containers = append(out.Containers, ContainerRuntime{
				Name: c.name, ID: c.id, State: c.state, RestartCount: c.restarts, LogPath: c.logPath,
			})
			continue
		}
		if prev := &out.Containers[at]; prev.PreviousID == "" {
			prev.PreviousID, prev.PreviousLogPath = c.id, c.logPath
		}
	}
	return out, true
}

// Status returns the last computed status of a pod.
func (m *Manager) Status(namespace, name string) (*corev1.PodStatus, bool) {
	w := m.worker(namespace, name, "")
	if w == nil {
		return nil, false
	}
	v := w.snapshotView()
	if v.status == nil {
		return nil, false
	}
	return v.status.DeepCopy(), true
}

// Refs lists the pods that have a worker.
func (m *Manager) Refs() []PodRef {
	var out []PodRef
	m.each(func(w *worker) { out = append(out, w.ref) })
	return out
}

func (m *Manager) worker(namespace, name string, uid types.UID) *worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	if uid != "" {
		if w := m.workers[uid]; w != nil && w.ref.Namespace == namespace && w.ref.Name == name {
			return w
		}
		return nil
	}
	var found *worker
	for _, w := range m.workers {
		if w.ref.Namespace != namespace || w.ref.Name != name {
			continue
		}
		if v := w.snapshotView(); found == nil || v.pod != nil && v.pod.DeletionTimestamp == nil {
			found = w
		}
	}
	return found
}
