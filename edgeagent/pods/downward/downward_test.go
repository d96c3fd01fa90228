package downward

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func testPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web", Namespace: "shop", UID: "u-1",
			Labels:      map[string]string{"b": "2", "a": "1"},
			Annotations: map[string]string{"note": "say \"hi\"\nbye"},
		},
		Spec: corev1.PodSpec{
			NodeName: "edge-1", ServiceAccountName: "robot",
			Containers: []corev1.Container{{
				Name: "c",
				Resources: corev1.ResourceRequirements{
					Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1250m")},
					Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("33Mi")},
				},
			}},
		},
	}
}

func TestField(t *testing.T) {
	facts := Facts{PodIPs: []string{"10.0.0.7", "fd00::7"}, HostIPs: []string{"192.168.1.2"}}
	for _, tt := range []struct {
		path, want string
		err        bool
	}{
		{path: "metadata.name", want: "web"},
		{path: "metadata.namespace", want: "shop"},
		{path: "metadata.uid", want: "u-1"},
		{path: "metadata.labels", want: "a=\"1\"\nb=\"2\""},
		{path: "metadata.annotations", want: `note="say \"hi\"\nbye"`},
		{path: "metadata.labels['b']", want: "2"},
		{path: "metadata.annotations['absent']", want: ""},
		{path: "spec.nodeName", want: "edge-1"},
		{path: "spec.serviceAccountName", want: "robot"},
		{path: "status.podIP", want: "10.0.0.7"},
		{path: "status.podIPs", want: "10.0.0.7,fd00::7"},
		{path: "status.hostIP", want: "192.168.1.2"},
		{path: "status.hostIPs", want: "192.168.1.2"},
		{path: "metadata.name['x']", err: true},
		{path: "spec.hostNetwork", err: true},
	} {
		t.Run(tt.path, func(t *testing.T) {
			got, err := Field(testPod(), facts, tt.path)
			if (err != nil) != tt.err || got != tt.want {
				t.Errorf("Field = %q, %v; want %q, error %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestResource(t *testing.T) {
	facts := Facts{Allocatable: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("64Mi"),
	}}
	for _, tt := range []struct{ res, divisor, want string }{
		{"limits.cpu", "", "2"},
		{"limits.cpu", "1m", "1250"},
		{"limits.memory", "1Mi", "64"},
		{"requests.memory", "1Mi", "33"},
		{"requests.memory", "", "34603008"},
		{"requests.cpu", "", "0"},
	} {
		t.Run(tt.res+"/"+tt.divisor, func(t *testing.T) {
			ref := &corev1.ResourceFieldSelector{Resource: tt.res}
			if tt.divisor != "" {
				ref.Divisor = resource.MustParse(tt.divisor)
			}
			got, err := Resource(testPod(), facts, "c", ref)
			if err != nil || got != tt.want {
				t.Errorf("Resource = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	if _, err := Resource(testPod(), facts, "absent", &corev1.ResourceFieldSelector{Resource: "limits.cpu"}); err == nil {
		t.Error("no error for a container that is not there")
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "alpha", "EMPTY": "", "N": "$(A)"}
	lookup := func(n string) (string, bool) { v, ok := vars[n]; return v, ok }
	for in, want := range map[string]string{
		"plain":      "plain",
		"$(A)":       "alpha",
		"x$(A)y$(A)": "xalphayalpha",
		"$$(A)":      "$(A)",
		"$$$(A)":     "$alpha",
		"$(MISSING)": "$(MISSING)",
		"$(EMPTY)":   "",
		"$(N)":       "$(A)",
		"$(A":        "$(A",
		"$A $":       "$A $",
		"$((A))":     "$((A))",
		"a$$":        "a$",
	} {
		if got := Expand(in, lookup); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
}
