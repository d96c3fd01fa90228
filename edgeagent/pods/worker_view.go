package pods

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// view is what other goroutines may see of a worker.
type view struct {
	pod    *corev1.Pod
	status *corev1.PodStatus
	obs    *observed
	gone   bool // the store does not have it
	ending bool // nothing of it will be started any more
	busy   bool // something is going on, so that relists should be frequent
	// released: what it held beside its containers has been given back.
	released bool
	// unsaved: what the next agent has to know of the pod is known to this one only.
	unsaved bool
}

// saveRetry is the pause after a status could not be written: most likely the disk
// is full.
const saveRetry = 10 * time.Second

// publish shows the worker's view to others, and reports a status that differs from the
// last one: who hears of a container finds it.
func (w *worker) publish(d *decision) {
	if d.status != nil {
		w.backOffEvents(d.status)
		w.mem.status = d.status
	}
	news := d.status != nil && !w.gone && !equality.Semantic.DeepEqual(w.reported, d.status)
	if news {
		w.reported = d.status
		w.unsaved, w.saveAt = true, time.Time{}
	}
	w.mu.Lock()
	w.view = view{
		pod: w.pod, status: w.mem.status, obs: w.obs, gone: w.gone, ending: d.ending, busy: w.busy(d),
		released: w.mem.released.done || w.mem.cleaned.done, unsaved: w.unsaved,
	}
	w.mu.Unlock()
	if news {
		w.report(d.status)
	}
	w.save()
	w.mu.Lock()
	w.view.unsaved = w.unsaved
	w.mu.Unlock()
}

// save keeps what was reported for the next agent, again and again until it could
// be written. Else a pod that was ended for want of disk would run again.
func (w *worker) save() {
	if w.gone || w.pod != nil && w.pod.DeletionTimestamp != nil {
		w.unsaved = false // its directory is about to go
	}
	if !w.unsaved {
		return
	}
	now := time.Now()
	if !now.Before(w.saveAt) {
		err := w.env.saveStatus(w.ref.UID, w.reported)
		if err == nil {
			w.unsaved = false
			return
		}
		w.saveAt = now.Add(saveRetry)
		w.env.Log.Warn("status not kept for the next agent", "pod", w.ref.Name, "namespace", w.ref.Namespace, "error", err)
	}
	if w.next.IsZero() || w.saveAt.Before(w.next) {
		w.next = w.saveAt
	}
}

// report hands a status on. A static pod goes as a whole: the API has no other.
func (w *worker) report(status *corev1.PodStatus) {
	if static(w.pod) {
		if w.env.Static != nil && w.pod.DeletionTimestamp == nil {
			pod := w.pod.DeepCopy()
			pod.Status = *status
			w.env.Static.StaticPod(pod)
		}
		return
	}
	w.env.Reporter.PodStatus(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.pod.Namespace, Name: w.pod.Name, UID: w.pod.UID,
			ResourceVersion: w.pod.ResourceVersion, Generation: w.pod.Generation,
			DeletionTimestamp: w.pod.DeletionTimestamp, DeletionGracePeriodSeconds: w.pod.DeletionGracePeriodSeconds,
		},
		Status: *status,
	})
}

// busy says whether the pod is likely to change soon: it is on its way to
// somewhere, or its containers are there to end.
func (w *worker) busy(d *decision) bool {
	if len(d.actions) > 0 || d.ending && !w.mem.released.done && !w.mem.cleaned.done {
		return true
	}
	for _, o := range w.mem.ops {
		if o.action.kind != actProbe {
			return true
		}
	}
	if d.status == nil {
		return true
	}
	ready := findCondition(d.status.Conditions, corev1.PodReady)
	return d.status.Phase == corev1.PodPending ||
		d.status.Phase == corev1.PodRunning && (ready == nil || ready.Status != corev1.ConditionTrue || w.pod.Spec.RestartPolicy != corev1.RestartPolicyAlways)
}

// sayGone reports the end of a pod that the API still has, once. The worker
// itself ends when the store has forgotten the pod too.
func (w *worker) sayGone() bool {
	if w.gone {
		return true
	}
	if !w.goneSaid {
		w.goneSaid = true
		w.env.Reporter.PodGone(w.ref.Namespace, w.ref.Name, w.ref.UID)
	}
	return false
}

func (w *worker) event(container, kind, reason, message string) {
	w.env.event(w.pod, container, kind, reason, message)
}

// snapshotView returns what others may see.
func (w *worker) snapshotView() view {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view
}
