package pods

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pods gives the pods that have a worker, by namespace and name, with their
// status as it was last computed. They are copies. One that is only in the
// runtime has no spec, and is about to go.
func (m *Manager) Pods() []*corev1.Pod {
	return slices.Collect(m.EachPod())
}

// EachPod gives what Pods does, one at a time, so that they are not all in memory
// at once.
func (m *Manager) EachPod() iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		var all []*worker
		m.each(func(w *worker) { all = append(all, w) })
		slices.SortFunc(all, func(a, b *worker) int {
			return cmp.Or(strings.Compare(a.ref.Namespace, b.ref.Namespace), strings.Compare(a.ref.Name, b.ref.Name),
				strings.Compare(string(a.ref.UID), string(b.ref.UID)))
		})
		for _, w := range all {
			if !yield(w.listed()) {
				return
			}
		}
	}
}

func (w *worker) listed() *corev1.Pod {
	v := w.snapshotView()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.ref.Namespace, Name: w.ref.Name, UID: w.ref.UID}}
	if v.pod != nil {
		pod = v.pod.DeepCopy()
	}
	pod.APIVersion, pod.Kind = "v1", "Pod"
	if v.status != nil {
		pod.Status = *v.status.DeepCopy()
	}
	if v.gone && pod.DeletionTimestamp == nil {
		// The store has forgotten it; when, nobody noted.
		now := metav1.Now()
		pod.DeletionTimestamp = &now
	}
	return pod
}
