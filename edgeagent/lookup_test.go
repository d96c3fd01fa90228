package edgeagent

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/pods"
)

func TestDescribe(t *testing.T) {
	two := kubeletapi.Attempt{ID: "two", LogPath: "/2"}
	one := kubeletapi.Attempt{ID: "one", LogPath: "/1"}
	for _, tt := range []struct {
		name   string
		state  cri.ContainerState
		reason string
		want   kubeletapi.Container
	}{
		{"running", cri.StateRunning, "", kubeletapi.Container{State: kubeletapi.Running, Current: two, Previous: one}},
		{"ended for good", cri.StateExited, "", kubeletapi.Container{State: kubeletapi.Terminated, Current: two, Previous: one}},
		{"waits to run again", cri.StateExited, "CrashLoopBackOff", kubeletapi.Container{Reason: "CrashLoopBackOff", Previous: two}},
		{"not started", cri.StateCreated, "RunContainerError", kubeletapi.Container{Reason: "RunContainerError", Previous: one}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pods.PodRuntime{Containers: []pods.ContainerRuntime{
				{Name: "c", ID: two.ID, LogPath: two.LogPath, State: tt.state, PreviousID: one.ID, PreviousLogPath: one.LogPath},
			}}
			tt.want.Name = "c"
			if d := cmp.Diff(tt.want, describe(&p, "c", tt.reason)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
	if got := describe(&pods.PodRuntime{}, "c", "ContainerCreating"); got.State != kubeletapi.Waiting || got.Current.ID != "" {
		t.Errorf("container that was never made: %+v", got)
	}
}

func TestContainerNames(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers:      []corev1.Container{{Name: "i"}},
		Containers:          []corev1.Container{{Name: "a"}, {Name: "b"}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e"}}},
	}}
	got := containerNames(&pods.PodRuntime{Pod: pod, Containers: []pods.ContainerRuntime{{Name: "b"}}})
	if d := cmp.Diff([]string{"i", "a", "b", "e"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	got = containerNames(&pods.PodRuntime{Containers: []pods.ContainerRuntime{{Name: "b"}}})
	if d := cmp.Diff([]string{"b"}, got); d != "" {
		t.Errorf("of a pod whose spec is gone (-want +got):\n%s", d)
	}
}
