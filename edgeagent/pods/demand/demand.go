// Package demand computes what a pod asks of its node: its requests and limits as
// a whole, its class of service and its rank. It serves edgeagent/pods,
// edgeagent/pods/admission and edgeagent/eviction, which must agree on them with
// each other and with the scheduler.
package demand

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Requests sums what the pod's containers request at the same time, its overhead
// included.
func Requests(pod *corev1.Pod) corev1.ResourceList {
	out := sum(pod, func(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Requests })
	if r := pod.Spec.Resources; r != nil {
		replace(out, r.Requests)
	}
	add(out, pod.Spec.Overhead)
	return out
}

// Limits sums the limits likewise. A resource that some container may use without
// limit has the sum of the others; see Limited.
func Limits(pod *corev1.Pod) corev1.ResourceList {
	out := sum(pod, func(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Limits })
	if r := pod.Spec.Resources; r != nil {
		replace(out, r.Limits)
	}
	for name, q := range pod.Spec.Overhead {
		if have, ok := out[name]; ok && !have.IsZero() {
			have.Add(q)
			out[name] = have
		}
	}
	return out
}

// Limited says whether every container that may run has a limit of a resource, or
// the pod as a whole.
func Limited(pod *corev1.Pod, name corev1.ResourceName) bool {
	if r := pod.Spec.Resources; r != nil {
		if q := r.Limits[name]; !q.IsZero() {
			return true
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if q := list[i].Resources.Limits[name]; q.IsZero() {
				return false
			}
		}
	}
	return true
}

// sum adds what runs together: the app containers with all restartable init
// containers, or one init container with those restartable ones before it.
func sum(pod *corev1.Pod, of func(*corev1.ResourceRequirements) corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := range pod.Spec.Containers {
		add(out, of(&pod.Spec.Containers[i].Resources))
	}
	before, most := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if Sidecar(c) {
			add(before, of(&c.Resources))
			add(out, of(&c.Resources))
			raise(most, before)
			continue
		}
		now := before.DeepCopy()
		add(now, of(&c.Resources))
		raise(most, now)
	}
	raise(out, most)
	return out
}

func add(to, from corev1.ResourceList) {
	for name, q := range from {
		have := to[name]
		if have.IsZero() {
			to[name] = q.DeepCopy()
			continue
		}
		have = have.DeepCopy()
		have.Add(q)
		to[name] = have
	}
}

func raise(to, from corev1.ResourceList) {
	for name, q := range from {
		if have, ok := to[name]; !ok || q.Cmp(have) > 0 {
			to[name] = q.DeepCopy()
		}
	}
}

// replace takes what the pod says of itself as a whole, which it may of these only.
func replace(to, from corev1.ResourceList) {
	for name, q := range from {
		if name == corev1.ResourceCPU || name == corev1.ResourceMemory || HugePages(name) {
			to[name] = q.DeepCopy()
		}
	}
}

// HugePages says whether a resource is huge pages of some size.
func HugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// OnDisk says whether a volume is an emptyDir on the node's disk; those in memory are
// bounded by the kernel.
func OnDisk(v *corev1.Volume) bool {
	return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault
}

// Amount is a quantity as it is compared: of CPU thousandths.
func Amount(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// Sidecar says whether this is a restartable init container.
func Sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
