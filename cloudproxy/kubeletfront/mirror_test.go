package kubeletfront

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestEdgeUID(t *testing.T) {
	pod := &corev1.Pod{}
	pod.UID = "api"
	if got := edgeUID(pod); got != "api" {
		t.Errorf("a pod of the API: %q", got)
	}
	pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: ""}
	if got := edgeUID(pod); got != "api" {
		t.Errorf("a mirror of nothing: %q", got)
	}
	pod.Annotations[corev1.MirrorPodAnnotationKey] = "file"
	if got := edgeUID(pod); got != "file" {
		t.Errorf("a mirror: %q", got)
	}
}
