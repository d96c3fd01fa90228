package e2e_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-io/skerry/tests/lab"
)

// claimScript counts its starts on the volume, and ends when told to.
const claimScript = `echo "$POD" >>/data/starts && ls /scratch >/dev/null && touch /scratch/$POD
while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 1`

// TestClaimedLocalVolume keeps data on a local PersistentVolume: over a pod's
// replacement by another, and, with no cloud, over restarts of agent and container.
// The pods are of a user who gets at it by fsGroup alone.
func TestClaimedLocalVolume(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	for _, name := range []string{"data", "scratch"} {
		must(t, os.Mkdir(e.Path(name), 0o700))
		newLocalVolume(t, ns, name, e)
	}
	must(t, os.WriteFile(e.Path("data", "starts"), nil, 0o600))
	must(t, theLab.Apply(t.Context(), []byte(strings.ReplaceAll(`
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: NS}
spec: {accessModes: [ReadWriteOnce], storageClassName: NS-data, resources: {requests: {storage: 1Mi}}}
`, "NS", ns))))
	runPod(t, claimingPod(ns, "first", e))
	if got := readFile(t, e.Path("data", "starts")); got != "first\n" {
		t.Errorf("on the machine: %q", got)
	}
	kubectl(t, "-n", ns, "delete", "pod", "first")
	// The claim of the ephemeral volume goes with its pod; its data would be recycled.
	kubectl(t, "delete", "persistentvolume", ns+"-scratch")
	newLocalVolume(t, ns, "scratch", e)
	before := runPod(t, claimingPod(ns, "second", e))
	if got := kubectl(t, "-n", ns, "exec", "second", "--", "cat", "/data/starts"); got != "first\nsecond\n" {
		t.Errorf("after the replacement: %q", got)
	}
	if got := kubectl(t, "-n", ns, "exec", "second", "--", "stat", "-c", "%g %a", "/data", "/data/starts"); got != "2000 2770\n2000 660\n" {
		t.Errorf("owner and mode are %q", got)
	}

	back := goOffline(t, e)
	must(t, e.KillAgent(t.Context()))
	must(t, e.StartAgent(t.Context()))
	eventually(t, "the agent to end the container", func() error {
		return here(t, e, "exec", "second", "-n", ns, "--", "touch", "/tmp/end").err
	})
	eventually(t, "the container to be there again, with no cloud", func() error {
		r := here(t, e, "exec", "second", "-n", ns, "--", "cat", "/data/starts")
		if r.err == nil && r.out != "first\nsecond\nsecond\n" {
			return fmt.Errorf("got %q", r.out)
		}
		return r.err
	})
	back()
	now := waitPod(t, ns, "second", func(pod *corev1.Pod) error {
		if n := pod.Status.ContainerStatuses[0].RestartCount; n != 1 {
			return fmt.Errorf("%d restarts", n)
		}
		return running(pod)
	})
	if now.UID != before.UID {
		t.Errorf("the pod was replaced")
	}
}

// newLocalVolume is a volume of one class, so that one claim takes it.
func newLocalVolume(t *testing.T, ns, name string, e *lab.Edge) {
	t.Helper()
	must(t, theLab.Apply(t.Context(), []byte(strings.NewReplacer("NS", ns, "NAME", name, "PATH", e.Path(name), "EDGE", e.Name).Replace(`
apiVersion: v1
kind: PersistentVolume
metadata: {name: NS-NAME}
spec:
  capacity: {storage: 1Mi}
  accessModes: [ReadWriteOnce]
  storageClassName: NS-NAME
  persistentVolumeReclaimPolicy: Retain
  local: {path: "PATH"}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [EDGE]}]}]}}
`))))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanupTime)
		defer cancel()
		if _, err := theLab.Kubectl(ctx, "delete", "persistentvolume", ns+"-"+name, "--ignore-not-found", "--wait=false"); err != nil {
			t.Error(err)
		}
	})
}

func claimingPod(ns, name string, e *lab.Edge) *corev1.Pod {
	c := shell("main", claimScript)
	c.Env = []corev1.EnvVar{{Name: "POD", Value: name}}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "scratch", MountPath: "/scratch"}}
	pod := newPod(ns, name, e, c)
	user, group, class := int64(1000), int64(2000), ns+"-scratch"
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user, FSGroup: &group}
	claim := &corev1.PersistentVolumeClaimTemplate{Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &class,
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}},
	}}
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: claim}}},
	}
	return pod
}
