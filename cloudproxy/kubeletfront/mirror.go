package kubeletfront

import corev1 "k8s.io/api/core/v1"

// edgeUID is by what the edge knows a pod. A static pod has a UID of its file, which its
// mirror has as an annotation; that edge looks for it under the mirror's name only.
func edgeUID(pod *corev1.Pod) string {
	if uid := pod.Annotations[corev1.MirrorPodAnnotationKey]; uid != "" {
		return uid
	}
	return string(pod.UID)
}
