package desired

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestStrip(t *testing.T) {
	meta := func() metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Annotations:   map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "a": "b"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
		}
	}
	field := corev1.ObjectFieldSelector{FieldPath: "metadata.annotations"}
	items := []corev1.DownwardAPIVolumeFile{{Path: "annotations", FieldRef: &field}}
	volume := func(v corev1.VolumeSource) corev1.PodSpec {
		return corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: v}}}
	}
	one := corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['kubectl.kubernetes.io/last-applied-configuration']"}
	for _, tt := range []struct {
		name string
		o    metav1.Object
		want int // annotations
	}{
		{"ConfigMap", &corev1.ConfigMap{ObjectMeta: meta()}, 1},
		{"pod", &corev1.Pod{ObjectMeta: meta()}, 1},
		{"volume", &corev1.Pod{ObjectMeta: meta(), Spec: volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: items}})}, 2},
		{"projected", &corev1.Pod{ObjectMeta: meta(), Spec: volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{DownwardAPI: &corev1.DownwardAPIProjection{Items: items}}},
		}})}, 2},
		{"environment", &corev1.Pod{ObjectMeta: meta(), Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{FieldRef: &one}}}},
		}}}, 2},
	} {
		if _, err := strip(tt.o); err != nil {
			t.Fatal(err)
		}
		if got := len(tt.o.GetAnnotations()); got != tt.want || tt.o.GetManagedFields() != nil {
			t.Errorf("%s: %d annotations, want %d; managed by %v", tt.name, got, tt.want, tt.o.GetManagedFields())
		}
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: "{}"}}}
	if _, err := strip(cm); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&corev1.ConfigMap{}, cm); diff != "" {
		t.Error(diff)
	}
}
