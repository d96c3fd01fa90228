package pods

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// Steps hears how far a change of the desired state has come. Its methods must
// not block.
type Steps interface {
	// Pod says that the pod, in this version, has come to a step.
	Pod(pod *corev1.Pod, step wire.Step)
	// Object says that whatever shows the object under key shows what is stored.
	Object(key string)
}

type noSteps struct{}

func (noSteps) Pod(*corev1.Pod, wire.Step) {}
func (noSteps) Object(string)              {}

// objectChange is a change of an object that some pods show. Manager.mu guards
// what is in it.
type objectChange struct {
	key  string
	left int // workers that have yet to show it
}

// shown says that one worker shows the change. A later change of the same object
// has taken the place of this one.
func (m *Manager) shown(c *objectChange) {
	m.mu.Lock()
	c.left--
	last := c.left == 0 && m.changes[c.key] == c
	if last {
		delete(m.changes, c.key)
	}
	m.mu.Unlock()
	if last {
		m.env.Steps.Object(c.key)
	}
}

// changed begins a change that so many workers are to show.
func (m *Manager) changed(key string, workers int) *objectChange {
	c := &objectChange{key: key, left: workers + 1}
	m.mu.Lock()
	m.changes[key] = c
	m.mu.Unlock()
	return c
}

// toldStep is what a worker has said of its pod.
type toldStep struct {
	version string
	step    wire.Step
}

// tell says how far the pod has come, and what objects it shows.
func (w *worker) tell(d *decision) {
	if w.pod != nil && !w.gone {
		step := wire.StepApplied
		if d.gone || d.status != nil && w.arrived(d) {
			step = wire.StepRunning
		}
		if t := (toldStep{w.pod.ResourceVersion, step}); t.version != w.told.version || t.step > w.told.step {
			w.told = t
			w.env.Steps.Pod(w.pod, step)
		}
	}
	if w.mem.volumesStale || w.acts(actRefreshVolumes) {
		return // the change is not in the files yet
	}
	w.mu.Lock()
	changes := w.changes
	// One that came after this step began is not known to be shown.
	if w.objects {
		changes = nil
	} else {
		w.changes = nil
	}
	w.mu.Unlock()
	for _, c := range changes {
		w.shown(c)
	}
}

// arrived says that the pod is as its spec wants it, or has ended.
func (w *worker) arrived(d *decision) bool {
	if terminal(d.status.Phase) {
		return true
	}
	for _, a := range d.actions {
		if a.kind != actProbe {
			return false
		}
	}
	for _, o := range w.mem.ops {
		if o.action.kind != actProbe {
			return false
		}
	}
	ready := findCondition(d.status.Conditions, corev1.ContainersReady)
	return d.status.Phase == corev1.PodRunning && ready != nil && ready.Status == corev1.ConditionTrue
}

// acts says whether an action of that kind is under way.
func (w *worker) acts(kind actionKind) bool {
	for _, o := range w.mem.ops {
		if o.action.kind == kind {
			return true
		}
	}
	return false
}

// show wakes the worker for an object that it uses.
func (w *worker) show(c *objectChange) {
	w.mu.Lock()
	ended := w.ended
	if !ended {
		w.changes = append(w.changes, c)
		w.objects = true // with it, or a step that is under way would take it for shown
	}
	w.mu.Unlock()
	if ended {
		w.shown(c)
		return
	}
	w.ring(false, true, false)
}

// release gives up what the worker will not show any more.
func (w *worker) release() {
	w.mu.Lock()
	w.ended = true
	changes := w.changes
	w.changes = nil
	w.mu.Unlock()
	for _, c := range changes {
		w.shown(c)
	}
}
