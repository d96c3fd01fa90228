package pods

import corev1 "k8s.io/api/core/v1"

// The annotations by which the kubelet marks a pod that comes from a file.
const (
	AnnotationSource = "kubernetes.io/config.source"
	SourceFile       = "file"
)

// static says whether a pod comes from a file on this machine.
func static(pod *corev1.Pod) bool { return pod.Annotations[AnnotationSource] == SourceFile }
