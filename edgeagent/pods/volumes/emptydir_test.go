package volumes

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-io/skerry/edgeagent/pods/downward"
)

// The root of a file system in memory has owner and mode from the mount on: a boot
// mounts it anew, over a directory that is there.
func TestMemoryFSOptions(t *testing.T) {
	for want, fs := range map[string]MemoryFS{
		"mode=777":                   {Mode: 0o777},
		"mode=777,size=4096":         {Mode: 0o777, Size: 4096},
		"mode=2777,gid=42,size=4096": {Mode: 0o777, Size: 4096, Group: new(int64(42))},
		"mode=2770,gid=0":            {Mode: 0o700, Group: new(int64(0))},
		"mode=777,pagesize=2097152":  {Mode: 0o777, PageSize: 2 << 20},
	} {
		if got := fs.options(); got != want {
			t.Errorf("%+v: %q, want %q", fs, got, want)
		}
	}
}

func TestMemorySize(t *testing.T) {
	memory := func(q string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(q)}
	}
	limited := func(limits ...string) []corev1.Container {
		var out []corev1.Container
		for _, l := range limits {
			c := corev1.Container{}
			if l != "" {
				c.Resources.Limits = memory(l)
			}
			out = append(out, c)
		}
		return out
	}
	sidecar := limited("32Mi")
	sidecar[0].RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	for _, tt := range []struct {
		name  string
		spec  corev1.PodSpec
		limit string
		want  string
	}{
		{"the node's", corev1.PodSpec{Containers: limited("")}, "", "1Gi"},
		{"the pod's", corev1.PodSpec{Containers: limited("64Mi", "64Mi")}, "", "128Mi"},
		{"one without a limit", corev1.PodSpec{Containers: limited("64Mi", "")}, "", "1Gi"},
		{"with a sidecar", corev1.PodSpec{InitContainers: sidecar, Containers: limited("64Mi")}, "", "96Mi"},
		{"a large init container", corev1.PodSpec{InitContainers: limited("200Mi"), Containers: limited("64Mi")}, "", "200Mi"},
		{"the pod's own", corev1.PodSpec{Resources: &corev1.ResourceRequirements{Limits: memory("20Mi")}, Containers: limited("")}, "", "20Mi"},
		{"the volume's", corev1.PodSpec{Containers: limited("64Mi")}, "10Mi", "10Mi"},
		{"a volume's above the pod's", corev1.PodSpec{Containers: limited("64Mi")}, "100Mi", "64Mi"},
	} {
		src := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}
		if tt.limit != "" {
			src.SizeLimit = new(resource.MustParse(tt.limit))
		}
		got := memorySize(&corev1.Pod{Spec: tt.spec}, src, downward.Facts{Allocatable: memory("1Gi")})
		if want := resource.MustParse(tt.want); got != want.Value() {
			t.Errorf("%s: %d, want %s", tt.name, got, tt.want)
		}
	}
}
