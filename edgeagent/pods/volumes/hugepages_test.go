package volumes

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestHugePagesFS(t *testing.T) {
	for _, tt := range []struct {
		medium, limit string
		pages         []string // sizes of which a container has some
		want          MemoryFS
		err           string
	}{
		{medium: "HugePages", pages: []string{"2Mi"}, want: MemoryFS{PageSize: 2 << 20}},
		{medium: "HugePages", limit: "8Mi", pages: []string{"2Mi"}, want: MemoryFS{PageSize: 2 << 20, Size: 8 << 20}},
		{medium: "HugePages", limit: "1Ki", pages: []string{"2Mi"}, want: MemoryFS{PageSize: 2 << 20, Size: 2 << 20}},
		{medium: "HugePages-1Gi", pages: []string{"2Mi", "1Gi"}, want: MemoryFS{PageSize: 1 << 30}},
		{medium: "HugePages-1024Mi", pages: []string{"1Gi"}, want: MemoryFS{PageSize: 1 << 30}},
		{medium: "HugePages", pages: []string{"2Mi", "1Gi"}, err: "2 sizes of huge pages"},
		{medium: "HugePages", err: "0 sizes of huge pages"},
		{medium: "HugePages-1Gi", pages: []string{"2Mi"}, err: "no container has a limit of hugepages-1Gi"},
		{medium: "HugePages-some", pages: []string{"2Mi"}, err: "size of pages"},
		{medium: "Optane", pages: []string{"2Mi"}, err: `medium "Optane" of emptyDir is not supported`},
	} {
		limits := corev1.ResourceList{}
		for _, size := range tt.pages {
			limits[corev1.ResourceName(corev1.ResourceHugePagesPrefix+size)] = resource.MustParse("4Gi")
		}
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: limits}}}}}
		src := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMedium(tt.medium)}
		if tt.limit != "" {
			src.SizeLimit = new(resource.MustParse(tt.limit))
		}
		got, err := hugePagesFS(pod, src)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%+v: %+v, %v", tt, got, err)
		}
	}
}
