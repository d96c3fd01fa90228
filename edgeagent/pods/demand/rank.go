package demand

import corev1 "k8s.io/api/core/v1"

// The names and numbers by which Kubernetes knows what it can't do without.
const (
	// SystemCriticalPriority is where the priorities of critical pods begin.
	SystemCriticalPriority = 2000000000
	systemNodeCritical     = "system-node-critical"
	annotationSource       = "kubernetes.io/config.source"
	annotationMirror       = "kubernetes.io/config.mirror"
	sourceAPI              = "api"
)

// QOS is the pod's class by its requests and limits of CPU and memory. What the API
// says counts: it stays as it was when the pod was made.
func QOS(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	some, guaranteed := false, true
	each := func(r *corev1.ResourceRequirements) {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			req, lim := r.Requests[name], r.Limits[name]
			some = some || !req.IsZero() || !lim.IsZero()
			if lim.IsZero() || (!req.IsZero() && req.Cmp(lim) != 0) {
				guaranteed = false
			}
		}
	}
	if pod.Spec.Resources != nil && len(pod.Spec.Resources.Requests)+len(pod.Spec.Resources.Limits) > 0 {
		each(pod.Spec.Resources)
	} else {
		for i := range pod.Spec.InitContainers {
			each(&pod.Spec.InitContainers[i].Resources)
		}
		for i := range pod.Spec.Containers {
			each(&pod.Spec.Containers[i].Resources)
		}
	}
	switch {
	case !some:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	default:
		return corev1.PodQOSBurstable
	}
}

// Priority is the pod's priority; none counts as zero.
func Priority(pod *corev1.Pod) int32 {
	if p := pod.Spec.Priority; p != nil {
		return *p
	}
	return 0
}

// Static says whether a pod comes from a file on this machine.
func Static(pod *corev1.Pod) bool {
	source, ok := pod.Annotations[annotationSource]
	return ok && source != sourceAPI
}

// Critical says whether the node is not whole without the pod.
func Critical(pod *corev1.Pod) bool {
	_, mirror := pod.Annotations[annotationMirror]
	return mirror || Static(pod) || Priority(pod) >= SystemCriticalPriority
}

// NodeCritical says whether not even the kernel should end the pod before others.
func NodeCritical(pod *corev1.Pod) bool {
	return Critical(pod) && pod.Spec.PriorityClassName == systemNodeCritical
}

// MayPreempt says whether by may take the place of pod.
func MayPreempt(by, pod *corev1.Pod) bool {
	if Critical(by) && !Critical(pod) {
		return true
	}
	return by.Spec.Priority != nil && pod.Spec.Priority != nil && *by.Spec.Priority > *pod.Spec.Priority
}
