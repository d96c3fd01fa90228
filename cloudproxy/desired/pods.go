package desired

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// OnPod has changed called with each pod that is bound to a node, when it is first
// seen and whenever it changes. Calls come one after another and must not block.
// It is to be called before Run.
func (p *Publisher) OnPod(changed func(pod *corev1.Pod)) error {
	call := func(o any) {
		if pod, ok := o.(*corev1.Pod); ok {
			changed(pod)
		}
	}
	_, err := p.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: call, UpdateFunc: func(_, after any) { call(after) },
	})
	if err != nil {
		return fmt.Errorf("desired: %w", err)
	}
	return nil
}

// PodsOf gives the pods bound to a node as the watch last saw them; the caller
// must not change them.
func (p *Publisher) PodsOf(node string) []*corev1.Pod {
	return indexed[*corev1.Pod](p.pods, byNode, node)
}

// indexed gives what a watch has under a value of one of its indexes.
func indexed[T any](informer cache.SharedIndexInformer, index, value string) []T {
	objects, err := informer.GetIndexer().ByIndex(index, value)
	if err != nil {
		return nil // the only error of an index is that it is not there
	}
	all := make([]T, 0, len(objects))
	for _, o := range objects {
		if t, ok := o.(T); ok {
			all = append(all, t)
		}
	}
	return all
}
