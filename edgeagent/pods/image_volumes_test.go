package pods

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// showsImage gives the container an image volume.
func showsImage(sub string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "r.io/data:1"}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/data", SubPath: sub}}
	}
}

func TestImageVolume(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.rt.fail["pull"] = errNope
		b.objects.put(newPod("p", showsImage("part")))
	}, func(b *bubble) {
		pass(0)
		b.see(t, "p", "Pending c=ErrImagePull") // its own image is there
		pass(6 * time.Second)
		b.see(t, "p", "Pending c=ImagePullBackOff")
		b.rt.mu.Lock()
		delete(b.rt.fail, "pull")
		b.rt.mu.Unlock()
		pass(5 * time.Second)
		b.see(t, "p", "Running c=Running+")
		want := cri.Mount{Image: "r.io/data:1", UserImage: "r.io/data:1", ImageSubPath: "part", ContainerPath: "/data", ReadOnly: true}
		b.rt.mu.Lock()
		defer b.rt.mu.Unlock()
		if d := cmp.Diff(want, b.rt.mounts[0]); d != "" {
			t.Error(d)
		}
	})
}

func TestImageVolumeSubPath(t *testing.T) {
	for sub, want := range map[string]string{
		"/etc": "error SubPath `/etc` must not be an absolute path", "../x": "unable to provision SubPath `../x`: must not contain '..'",
	} {
		inBubble(t, func(b *bubble) {
			b.rt.images["r.io/data:1"] = true
			b.objects.put(newPod("p", showsImage(sub)))
		}, func(b *bubble) {
			pass(time.Second)
			b.see(t, "p", "Pending c=CreateContainerConfigError")
			s := b.rec.get("ns/p")
			if got := s.ContainerStatuses[0].State.Waiting.Message; got != want {
				t.Errorf("message %q, want %q", got, want)
			}
		})
	}
}

func TestImageVolumeUnsupported(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.rt.name = "containerd"
		b.objects.put(newPod("p", showsImage("")))
	}, func(b *bubble) {
		pass(time.Minute)
		b.see(t, "p", "Pending c=ContainerCreating")
		if !b.rec.hasEvent(`Warning FailedMount: volume "v": image volumes are not supported on this node: containerd 1.6.20 can't mount images, 2.1 can`) {
			t.Errorf("events %v", b.rec.events)
		}
		if log := b.rt.log(); strings.Contains(log, "pull") || strings.Contains(log, "sandbox") || strings.Contains(log, "create") {
			t.Errorf("it runs half:\n%s", log)
		}
	})
}

func TestRuntimesThatMountImages(t *testing.T) {
	for _, tt := range []struct {
		name, version string
		can           bool
	}{
		{"containerd", "1.6.20~ds1", false},
		{"containerd", "v2.0.9", false},
		{"containerd", "v2.1.0-rc.1", true},
		{"containerd", "3.0.0", true},
		{"containerd", "unknown", true},
		{"cri-o", "1.30.4", false},
		{"cri-o", "1.31.0", true},
		{"another", "0.1", true},
	} {
		if got := lacksImageVolumes(cri.Version{Name: tt.name, Version: tt.version}) == ""; got != tt.can {
			t.Errorf("%s %s: %v", tt.name, tt.version, got)
		}
	}
}
