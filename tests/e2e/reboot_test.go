package e2e_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

// bootScript counts its starts on a volume, and tells what it finds: the files of
// a ConfigMap, a Secret and a token, and a variable.
const bootScript = `n=$(($(cat /data/boots 2>/dev/null)+1)); echo $n >/data/boots
echo "boot $n: $(cat /settings/colour) $(cat /secret/password) $E_COLOUR $(tr -cd . </var/run/secrets/kubernetes.io/serviceaccount/token)"
` + idle

// applySettings makes the ConfigMap and the Secret that the pods of these tests mount.
func applySettings(t *testing.T, ns string) {
	t.Helper()
	must(t, theLab.Apply(t.Context(), []byte(strings.ReplaceAll(`
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: NS}
data: {colour: red}
---
apiVersion: v1
kind: Secret
metadata: {name: secret, namespace: NS}
stringData: {password: hidden}
`, "NS", ns))))
}

// TestRebootedOffline takes the power from a machine whose link is away, its network
// namespace, containerd and agent with it, and starts it again: the pods come back
// from the disk alone. When the link returns, nothing is built anew, and the logs of
// what ran meanwhile are there.
func TestRebootedOffline(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	applySettings(t, ns)
	before := []*corev1.Pod{bootPod(ns, "first", e), bootPod(ns, "second", e)}
	for _, pod := range before {
		create(t, pod)
	}
	for i, pod := range before {
		before[i] = waitPod(t, ns, pod.Name, running)
	}
	onlyPods(t, e, before...)

	must(t, e.CutPower(t.Context()))
	must(t, e.StartMachine(t.Context(), "A"))
	back := goOffline(t, e)
	began := time.Now()
	must(t, e.StartAgent(t.Context()))
	eventually(t, "the pods to be back with no cloud", func() error {
		now, err := e.Tasks(t.Context())
		if err == nil && len(now) != 2*len(before) {
			return fmt.Errorf("%d tasks: %v", len(now), now)
		}
		return err
	})
	t.Logf("%d pods run %v after the start of the agent, with no cloud", len(before), time.Since(began).Round(10*time.Millisecond))
	tasks, err := e.Tasks(t.Context())
	must(t, err)
	back()

	must(t, e.WaitReady(t.Context(), patience))
	for _, pod := range before {
		now := waitPod(t, ns, pod.Name, func(now *corev1.Pod) error {
			if containerID(t, now, "main") == containerID(t, pod, "main") {
				return errors.New("the status is that of before the reboot")
			}
			return running(now)
		})
		if c := now.Status.ContainerStatuses[0]; now.UID != pod.UID || c.RestartCount != 1 {
			t.Errorf("pod %s has UID %s, was %s; %d restarts, want 1", pod.Name, now.UID, pod.UID, c.RestartCount)
		}
		if id := containerID(t, now, "main"); !slices.Contains(tasks, id) {
			t.Errorf("pod %s was built anew when the link came back: container %s, offline ran %v", pod.Name, id, tasks)
		}
		eventually(t, "the log of what ran offline", func() error {
			r := try(t, "-n", ns, "logs", pod.Name)
			if want := "boot 2: red hidden red ..\n"; r.err == nil && r.out != want {
				return fmt.Errorf("got %q, want %q", r.out, want)
			}
			return r.err
		})
		execWorks(t, ns, pod.Name)
	}
	if now, err := e.Tasks(t.Context()); err != nil || !slices.Equal(sorted(now), sorted(tasks)) {
		t.Errorf("tasks are %v, %v; offline they were %v", now, err, tasks)
	}
}

func bootPod(ns, name string, e *lab.Edge) *corev1.Pod {
	c := shell("main", bootScript)
	c.Env = []corev1.EnvVar{{Name: "E_COLOUR", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Key: "colour",
	}}}}
	c.VolumeMounts = []corev1.VolumeMount{
		{Name: "data", MountPath: "/data"}, {Name: "settings", MountPath: "/settings"}, {Name: "secret", MountPath: "/secret"},
	}
	pod := newPod(ns, name, e, c)
	pod.Spec.AutomountServiceAccountToken = nil
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "settings", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}},
		{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "secret"}}},
	}
	return pod
}
