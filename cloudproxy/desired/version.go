package desired

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// podVersion changes whenever something changes that the edge must know: the
// UID, or the hash of everything but status, resourceVersion and managedFields.
// Status is what the edge itself reports; with resourceVersion in it, each report
// would come back down the link as an update. Readiness gates are what others say.
func podVersion(pod *corev1.Pod) (string, error) {
	p := *pod
	p.Status = corev1.PodStatus{Conditions: gates(pod)}
	p.ResourceVersion = ""
	p.ManagedFields = nil
	b, err := p.Marshal() // sorts maps, so equal pods give equal bytes
	if err != nil {
		return "", fmt.Errorf("encode pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	sum := sha256.Sum256(b)
	return string(pod.UID) + "/" + hex.EncodeToString(sum[:12]), nil
}

// gates gives the conditions by which others hold the pod's readiness, as far as they
// decide it.
func gates(pod *corev1.Pod) []corev1.PodCondition {
	var out []corev1.PodCondition
	for _, gate := range pod.Spec.ReadinessGates {
		for i := range pod.Status.Conditions {
			if c := &pod.Status.Conditions[i]; c.Type == gate.ConditionType {
				out = append(out, corev1.PodCondition{Type: c.Type, Status: c.Status})
			}
		}
	}
	return out
}

// objectVersion serves for objects that the edge never writes.
func objectVersion(o metav1.Object) string {
	return string(o.GetUID()) + "/" + o.GetResourceVersion()
}

// versionUID gives the UID that a version begins with.
func versionUID(version string) types.UID {
	uid, _, _ := strings.Cut(version, "/")
	return types.UID(uid)
}
