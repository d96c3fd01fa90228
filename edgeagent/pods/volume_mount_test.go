package pods

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

func TestSubPathExpr(t *testing.T) {
	vars := []cri.EnvVar{{Name: "ABS", Value: "/tmp"}, {Name: "EMPTY"}, {Name: "NAME", Value: "foo"}, {Name: "UP", Value: ".."}}
	for _, tt := range []struct{ expr, want, err string }{
		{expr: "$(NAME)", want: "foo"},
		{expr: "$(NAME)/$(NAME)-$$(NAME)", want: "foo/foo-$(NAME)"},
		{expr: "$(UP)", err: "unable to provision SubPath `..`: must not contain '..'"},
		{expr: "$(ABS)", err: "error SubPath `/tmp` must not be an absolute path"},
		{expr: "$(NONE)/$(EMPTY)/$(NONE)/$(NAME)", err: "missing value for EMPTY, NONE"},
	} {
		got, err := subPath(&corev1.VolumeMount{SubPathExpr: tt.expr}, vars)
		if err == nil && (tt.err != "" || got != tt.want) || err != nil && err.Error() != tt.err {
			t.Errorf("%s gives %q, %v; want %q, %s", tt.expr, got, err, tt.want, tt.err)
		}
	}
}

func TestRecursiveReadOnly(t *testing.T) {
	mode := func(m corev1.RecursiveReadOnlyMode) *corev1.RecursiveReadOnlyMode { return &m }
	two := corev1.MountPropagationHostToContainer
	for _, tt := range []struct {
		mount     corev1.VolumeMount
		supported bool
		want      bool
		err       string
	}{
		{mount: corev1.VolumeMount{}},
		{mount: corev1.VolumeMount{RecursiveReadOnly: mode(corev1.RecursiveReadOnlyDisabled)}, supported: true},
		{mount: corev1.VolumeMount{RecursiveReadOnly: mode(corev1.RecursiveReadOnlyEnabled)}, supported: true, err: "it is not read-only"},
		{mount: corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode(corev1.RecursiveReadOnlyEnabled)}, err: "not supported by the runtime"},
		{mount: corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode(corev1.RecursiveReadOnlyEnabled)}, supported: true, want: true},
		{mount: corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode(corev1.RecursiveReadOnlyIfPossible)}},
		{mount: corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode(corev1.RecursiveReadOnlyIfPossible)}, supported: true, want: true},
		{mount: corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode(corev1.RecursiveReadOnlyIfPossible), MountPropagation: &two}, err: "not compatible with propagation"},
		{mount: corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode("Odd")}, err: `unknown recursive read-only mode "Odd"`},
	} {
		got, err := recursiveReadOnly(&tt.mount, func() bool { return tt.supported })
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%+v: %v, %v; want %v, %s", tt.mount, got, err, tt.want, tt.err)
		}
	}
}

func TestVolumeMount(t *testing.T) {
	e := testEnv(t)
	e.Features = func(context.Context, string) (cri.HandlerFeatures, error) {
		return cri.HandlerFeatures{RecursiveReadOnly: true}, nil
	}
	pod := newPod("p", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{
			{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv"}}},
			{Name: "cm", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}},
		}
	})
	c := &pod.Spec.Containers[0]
	both, on := corev1.MountPropagationBidirectional, corev1.RecursiveReadOnlyEnabled
	for _, tt := range []struct {
		mount corev1.VolumeMount
		want  cri.Mount
		err   string
	}{
		{corev1.VolumeMount{Name: "host", MountPath: "in"}, cri.Mount{ContainerPath: "/in", HostPath: "/srv"}, ""},
		{
			corev1.VolumeMount{Name: "host", MountPath: "/in", ReadOnly: true, RecursiveReadOnly: &on},
			cri.Mount{ContainerPath: "/in", HostPath: "/srv", ReadOnly: true, RecursiveReadOnly: true},
			"",
		},
		{
			corev1.VolumeMount{Name: "host", MountPath: "/in", MountPropagation: &both},
			cri.Mount{ContainerPath: "/in", HostPath: "/srv", Propagation: cri.PropagationBidirectional},
			"",
		},
		{
			corev1.VolumeMount{Name: "cm", MountPath: "/in"},
			cri.Mount{ContainerPath: "/in", HostPath: e.volumes.Path(pod, &pod.Spec.Volumes[1]), ReadOnly: true},
			"",
		},
		{corev1.VolumeMount{Name: "none"}, cri.Mount{}, `cannot find volume "none" to mount into container "c"`},
		{corev1.VolumeMount{Name: "host", SubPathExpr: "$(X)"}, cri.Mount{}, "missing value for X"},
	} {
		c.VolumeMounts = []corev1.VolumeMount{tt.mount}
		got, err := e.volumeMount(t.Context(), pod, c, 0, nil)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("error %v, want %s", err, tt.err)
			}
			continue
		}
		if d := cmp.Diff(tt.want, got); d != "" || err != nil {
			t.Error(err, d)
		}
	}
}

// A pod whose variables don't give a subPath waits, and starts as soon as its
// annotations do.
func TestSubPathExprMended(t *testing.T) {
	pod := newPod("p", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		c := &p.Spec.Containers[0]
		c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['path']"}}}}
		c.VolumeMounts = []corev1.VolumeMount{{Name: "d", MountPath: "/d", SubPathExpr: "$(A)/x"}}
	})
	inBubble(t, func(b *bubble) { b.mounter = noMounts{}; b.objects.put(pod) }, func(b *bubble) {
		pass(time.Second)
		b.see(t, "p", "Pending c=CreateContainerConfigError")
		if got := b.rec.get("ns/p").ContainerStatuses[0].State.Waiting.Message; got != "missing value for A" {
			t.Errorf("message %q", got)
		}
		mended := pod.DeepCopy()
		mended.Annotations = map[string]string{"path": "mine"}
		b.objects.put(mended)
		b.m.Wake("pods/ns/p")
		pass(0)
		b.see(t, "p", "Running c=Running+")
	})
}

// noMounts mounts nothing.
type noMounts struct{}

func (noMounts) Memory(string, volumes.MemoryFS) error { return nil }
func (noMounts) Bind(*os.File, string) error           { return nil }
func (noMounts) Unmount(string) error                  { return nil }
func (noMounts) Mounts(string) ([]string, error)       { return nil, nil }
