package pods

import (
	"errors"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/admission"
)

// admitRetry is how often a pod for which others make room asks again; it is woken
// when one of them has gone.
const admitRetry = time.Second

// labelPatience is how long a pod that doesn't match the node's labels may wait for
// others. Pods and Node come by themselves each, so that a pod may overtake the very
// label that it was made for; a kubelet asks for the Node again.
const (
	labelPatience  = 10 * time.Second
	reasonAffinity = "NodeAffinity"
)

// What a pod is told that makes room for a critical one, in the kubelet's words.
const (
	reasonPreempting   = "Preempting"
	preemptingMessage  = "Preempted in order to admit critical pod"
	preemptedCondition = "Pod was preempted by Kubelet to accommodate a critical pod."
)

// account sees that the pod is admitted before anything of it starts, and that it
// is looked at with the resources that it was given. One of which something runs
// was admitted: by an agent before this one, and its node may have been another
// since.
func (w *worker) account(now time.Time) {
	w.mem.unadmitted = false
	if w.wanted == nil || w.gone {
		return
	}
	w.pod = w.wanted
	if w.mem.outcome != nil || terminal(lastPhase(input{pod: w.pod, mem: w.mem})) {
		return
	}
	if !w.env.ledger.has(w.ref.UID) {
		switch {
		case len(w.obs.sandboxes)+len(w.obs.containers) > 0:
			w.kept(w.env.ledger.adopt(w.wanted))
		case w.wanted.DeletionTimestamp != nil || w.env.ledger.restore(w.wanted):
		default:
			w.admit(now)
		}
	}
	w.pod = w.env.ledger.view(w.wanted)
	w.mem.given = w.env.ledger.given(w.ref.UID)
	if w.mem.given != nil {
		w.resize(now)
	}
}

// admit asks for the pod, unless it was told to wait.
func (w *worker) admit(now time.Time) {
	w.mem.unadmitted = true
	if w.env.undecided(w.wanted) {
		w.mem.admitAt = now.Add(admitRetry)
		return
	}
	a, err := w.env.ledger.admit(w.wanted)
	w.kept(err)
	switch {
	case a.refused != nil && a.refused.Reason == reasonAffinity && w.patient(now):
		w.mem.admitAt = now.Add(admitRetry)
	case a.refused != nil:
		w.mem.outcome = &outcome{reason: a.refused.Reason, message: "Pod was rejected: " + a.refused.Message, refused: true}
		w.event("", corev1.EventTypeWarning, a.refused.Reason, a.refused.Message)
		w.env.Log.Info("pod refused", "pod", w.ref.Name, "namespace", w.ref.Namespace, "reason", a.refused.Reason, "message", a.refused.Message)
	case !a.admitted:
		w.mem.admitAt = now.Add(admitRetry)
		for _, uid := range a.preempt {
			w.env.end(uid, End{Reason: reasonPreempting, Message: preemptingMessage, Condition: preemptedCondition})
		}
	default:
		w.mem.unadmitted = false
	}
}

// patient says whether it is too early to believe the node's labels.
func (w *worker) patient(now time.Time) bool {
	if w.mem.askedAt.IsZero() {
		w.mem.askedAt = now
	}
	return now.Sub(w.mem.askedAt) < labelPatience
}

// kept tells that an allocation could not be written. The pod runs on with it, and
// a new agent asks again.
func (w *worker) kept(err error) {
	if err != nil {
		w.env.Log.Warn("allocation not kept for the next agent", "pod", w.ref.Name, "namespace", w.ref.Namespace, "error", err)
	}
}

// leave gives up what the pod holds once nothing of it runs or will run.
func (w *worker) leave(d *decision) {
	if d.ending && !w.obs.running() && w.mem.ops[opStart] == nil && w.mem.ops[opSandbox] == nil {
		w.env.ledger.drop(w.ref.UID)
		w.mem.given = nil
	}
}

// End says that a pod has to end, for the node's sake.
type End struct {
	// Reason and Message are the pod's in its status, and those of a warning.
	Reason, Message string
	// Grace is what its containers have to stop; nil means what the pod says.
	Grace *time.Duration
	// Condition is the message of the condition DisruptionTarget; empty means none.
	Condition string
}

// End ends a pod for good, whatever its restart policy. It does not wait, and says
// whether there is such a pod that has not ended yet.
func (m *Manager) End(uid types.UID, e End) bool {
	m.mu.Lock()
	w := m.workers[uid]
	m.mu.Unlock()
	if w == nil {
		return false
	}
	w.mu.Lock()
	ended := w.ended || w.view.gone || w.view.status != nil && terminal(w.view.status.Phase)
	if !ended {
		w.order = &e
	}
	w.mu.Unlock()
	if !ended {
		w.ring(false, false, false)
	}
	return !ended
}

// obey takes an order to end, once.
func (w *worker) obey() {
	w.mu.Lock()
	e := w.order
	w.order = nil
	w.mu.Unlock()
	if e == nil || w.pod == nil || w.mem.outcome != nil || terminal(lastPhase(input{pod: w.pod, mem: w.mem})) {
		return
	}
	w.mem.outcome = &outcome{reason: e.Reason, message: e.Message, grace: e.Grace, disruption: e.Condition}
	w.event("", corev1.EventTypeWarning, e.Reason, e.Message)
	w.env.Log.Info("pod has to end", "pod", w.ref.Name, "namespace", w.ref.Namespace, "reason", e.Reason, "message", e.Message)
}

// ringPod wakes the worker of a pod for what its ledger says.
func (m *Manager) ringPod(uid types.UID) {
	m.mu.Lock()
	w := m.workers[uid]
	m.mu.Unlock()
	if w != nil {
		w.ring(false, false, false)
	}
}

// keepLedger begins the ledger of m's pods.
func (e *env) keepLedger(m *Manager) {
	e.signal = syscall.Kill
	e.kernel, e.appArmor, e.end = kernelVersion(), hasAppArmor(), m.End
	e.ledger = newLedger(ledgerConfig{
		node: e.node, save: e.saveAllocation, load: e.savedAllocation, forget: e.forgetAllocation, ring: m.ringPod, gone: e.gone,
	})
}

// gone says that the store has another pod, or none, under a pod's name.
func (e *env) gone(pod *corev1.Pod) bool {
	now, err := e.Objects.Pod("pods/" + pod.Namespace + "/" + pod.Name)
	return errors.Is(err, ErrNotFound) || err == nil && now.UID != pod.UID
}

// undecided says that the pod needs what the runtime has not yet told whether it can.
func (e *env) undecided(pod *corev1.Pod) bool {
	if sc := pod.Spec.SecurityContext; e.Handlers == nil || sc == nil || sc.SupplementalGroupsPolicy == nil {
		return false
	}
	_, features := e.Handlers()
	return features == nil
}

// node is what admission looks at beside the pods.
func (e *env) node() *admission.Node {
	n := &admission.Node{
		Name: e.NodeName, Allocatable: e.Allocatable(), UnsafeSysctls: e.AllowedUnsafeSysctls,
		Kernel: e.kernel, NoAppArmor: !e.appArmor,
	}
	if e.Handlers != nil {
		_, features := e.Handlers()
		n.StrictGroups = features != nil && features.SupplementalGroupsPolicy != nil && *features.SupplementalGroupsPolicy
	}
	if e.Pressures != nil {
		n.Pressures = e.Pressures()
	}
	if e.Node != nil {
		object, err := e.Node()
		if err != nil {
			e.Log.Debug("node not known", "error", err)
		} else {
			n.Object = object
		}
	}
	return n
}
