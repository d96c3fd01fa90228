package staticpods

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/pods"
)

// Objects is the desired state with static pods over it. A pod of the cloud with
// the name of a static one does not run.
type Objects struct {
	pods.Objects
	Source *Source
}

// Pod implements pods.Objects.
func (o Objects) Pod(key string) (*corev1.Pod, error) {
	if pod, ok := o.Source.Pod(key); ok {
		return pod, nil
	}
	return o.Objects.Pod(key)
}

// Pods implements pods.Objects. With an error it gives what may start all the same:
// static pods wait for nobody, and nobody for those that the disk does not give.
func (o Objects) Pods() ([]*corev1.Pod, error) {
	list := o.Source.Pods()
	rest, err := o.Objects.Pods()
	if err != nil {
		return list, err
	}
	for _, pod := range rest {
		if _, ok := o.Source.Pod("pods/" + pod.Namespace + "/" + pod.Name); !ok {
			list = append(list, pod)
		}
	}
	return list, o.Source.Unread()
}
