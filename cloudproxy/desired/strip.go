package desired

import (
	"maps"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// strip keeps out of memory and off the link what no edge reads: managedFields,
// and what `kubectl apply` remembers, which says everything once more. What pods
// show of their own annotations stays.
func strip(o any) (any, error) {
	switch o := o.(type) {
	case *unstructured.Unstructured:
		return definedOf(o)
	case *defined:
		return o, nil
	case *corev1.Service:
		return linked(o), nil
	case *corev1.Node:
		return placing(o), nil
	case *certificatesv1.PodCertificateRequest:
		return answered(o), nil
	}
	m, ok := o.(metav1.Object)
	if !ok {
		return o, nil
	}
	m.SetManagedFields(nil)
	if _, ok := m.GetAnnotations()[corev1.LastAppliedConfigAnnotation]; !ok {
		return o, nil
	}
	if pod, ok := o.(*corev1.Pod); ok && showsAnnotations(pod) {
		return o, nil
	}
	rest := maps.Clone(m.GetAnnotations())
	delete(rest, corev1.LastAppliedConfigAnnotation)
	if len(rest) == 0 {
		rest = nil
	}
	m.SetAnnotations(rest)
	return o, nil
}

// showsAnnotations says whether the downward API gives a container annotations.
func showsAnnotations(pod *corev1.Pod) bool {
	shows := func(f *corev1.ObjectFieldSelector) bool {
		return f != nil && strings.HasPrefix(f.FieldPath, "metadata.annotations")
	}
	for _, v := range pod.Spec.Volumes {
		var items []corev1.DownwardAPIVolumeFile
		if v.DownwardAPI != nil {
			items = append(items, v.DownwardAPI.Items...)
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.DownwardAPI != nil {
					items = append(items, s.DownwardAPI.Items...)
				}
			}
		}
		for _, item := range items {
			if shows(item.FieldRef) {
				return true
			}
		}
	}
	var env []corev1.EnvVar
	for i := range pod.Spec.InitContainers {
		env = append(env, pod.Spec.InitContainers[i].Env...)
	}
	for i := range pod.Spec.Containers {
		env = append(env, pod.Spec.Containers[i].Env...)
	}
	for i := range pod.Spec.EphemeralContainers {
		env = append(env, pod.Spec.EphemeralContainers[i].Env...)
	}
	for _, e := range env {
		if e.ValueFrom != nil && shows(e.ValueFrom.FieldRef) {
			return true
		}
	}
	return false
}
