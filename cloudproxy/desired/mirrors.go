package desired

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// mirror says whether a pod only shows one that runs from a file of its node. Who says
// so of a pod has it run nowhere.
func mirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// OnMirror has changed called with each mirror pod that is bound to a node when it is
// first seen, when it is being deleted, and when it is gone. Calls come one after
// another and must not block. It is to be called before Run.
func (p *Publisher) OnMirror(changed func(pod *corev1.Pod)) error {
	call := func(o any) {
		if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = d.Obj
		}
		if pod, ok := o.(*corev1.Pod); ok && mirror(pod) {
			changed(pod)
		}
	}
	_, err := p.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: call,
		UpdateFunc: func(_, o any) {
			if pod, ok := o.(*corev1.Pod); ok && pod.DeletionTimestamp != nil {
				call(o)
			}
		},
		DeleteFunc: call,
	})
	if err != nil {
		return fmt.Errorf("desired: %w", err)
	}
	return nil
}
