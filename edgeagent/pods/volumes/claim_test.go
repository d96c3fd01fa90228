package volumes

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// claims is what the store holds of one claim and one volume.
type claims struct {
	claim  *corev1.PersistentVolumeClaim
	volume *corev1.PersistentVolume
}

func (c claims) PersistentVolumeClaim(namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	if c.claim == nil || c.claim.Namespace != namespace || c.claim.Name != name {
		return nil, ErrNotFound
	}
	return c.claim, nil
}

func (c claims) PersistentVolume(name string) (*corev1.PersistentVolume, error) {
	if c.volume == nil || c.volume.Name != name {
		return nil, ErrNotFound
	}
	return c.volume, nil
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	pod := func(v corev1.VolumeSource) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "pod"},
			Spec: corev1.PodSpec{
				Volumes:    []corev1.Volume{{Name: "data", VolumeSource: v}},
				Containers: []corev1.Container{{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}}},
			},
		}
	}
	claimed := func(readOnly bool) *corev1.Pod {
		return pod(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c", ReadOnly: readOnly}})
	}
	claim := func(name, volume string) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "u"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: volume}}
		if volume != "" {
			c.Status.Phase = corev1.ClaimBound
		}
		return c
	}
	volume := func(src corev1.PersistentVolumeSource) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: src, ClaimRef: &corev1.ObjectReference{UID: "u"}}}
	}
	local := volume(corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: dir}})
	block := volume(corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: dir}})
	mode := corev1.PersistentVolumeBlock
	block.Spec.VolumeMode = &mode
	ephemeral := func(owner types.UID) *corev1.PersistentVolumeClaim {
		c := claim("db-data", "v")
		c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "db", UID: owner, Controller: new(true)}}
		return c
	}
	deleted, protected := claim("c", "v"), claim("c", "v")
	deleted.DeletionTimestamp, protected.DeletionTimestamp = &metav1.Time{}, &metav1.Time{}
	protected.Finalizers = []string{"kubernetes.io/pvc-protection"}
	others := local.DeepCopy()
	others.Spec.ClaimRef.UID = "another"
	for _, tt := range []struct {
		name   string
		pod    *corev1.Pod
		claims Claims
		path   string
		err    string
	}{
		{"local", claimed(false), claims{claim("c", "v"), local}, dir, ""},
		{"read-only", claimed(true), claims{claim("c", "v"), local}, dir, ""},
		{"hostPath", claimed(false), claims{claim("c", "v"), volume(corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/x"}})}, "/x", ""},
		{"ephemeral", pod(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}), claims{ephemeral("pod"), local}, dir, ""},
		{"ephemeral, claim of a pod before", pod(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}), claims{ephemeral("another"), local}, "", "PVC ns/db-data was not created for pod ns/db (pod is not owner)"},
		{"ephemeral, claim of nobody", pod(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}), claims{claim("db-data", "v"), local}, "", "PVC ns/db-data was not created for pod ns/db (pod is not owner)"},
		{"claim that goes", claimed(false), claims{deleted, local}, "", "error processing PVC ns/c: PVC is being deleted"},
		{"claim that would go", claimed(false), claims{protected, local}, dir, ""},
		{"no claim", claimed(false), claims{}, "", `persistentvolumeclaim "c" not found`},
		{"unbound", claimed(false), claims{claim("c", ""), nil}, "", "error processing PVC ns/c: PVC is not bound"},
		{"no volume", claimed(false), claims{claim("c", "v"), nil}, "", `persistentvolume "v" not found`},
		{"volume of another claim", claimed(false), claims{claim("c", "v"), others}, "", "of another claim"},
		{"local that is not there", claimed(false), claims{claim("c", "v"), volume(corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: dir + "/none"}})}, "", "does not exist"},
		{"block", claimed(false), claims{claim("c", "v"), block}, "", "not supported"},
		{"NFS", claimed(false), claims{claim("c", "v"), volume(corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{}})}, "", "not supported"},
		{"nobody to ask", claimed(false), nil, "", "not supported"},
	} {
		got, locals, err := Resolve(tt.pod, tt.claims)
		if tt.err != "" {
			var unsupported *UnsupportedError
			if err == nil || !strings.Contains(err.Error(), tt.err) || errors.As(err, &unsupported) != (tt.err == "not supported") {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if p := got.Spec.Volumes[0].HostPath; p == nil || p.Path != tt.path || got.Spec.Containers[0].VolumeMounts[0].ReadOnly != (tt.name == "read-only") {
			t.Errorf("%s: got %+v", tt.name, got.Spec)
		}
		if want := tt.path == dir && tt.name != "read-only"; (len(locals) == 1) != want {
			t.Errorf("%s: to be owned: %v", tt.name, locals)
		}
		if tt.pod.Spec.Volumes[0].HostPath != nil {
			t.Errorf("%s: the pod that was given has changed", tt.name)
		}
	}
}
