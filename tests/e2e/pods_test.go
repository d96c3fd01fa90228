package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

func TestDeployment(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	must(t, theLab.Apply(t.Context(), []byte(strings.NewReplacer("NS", ns, "IMAGE", lab.BusyboxImage).Replace(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      nodeSelector: {node-role.kubernetes.io/edge: "", kubernetes.io/hostname: edge1}
      containers: [{name: web, image: IMAGE, command: [sleep, "100000"]}]
`))))
	kubectl(t, "-n", ns, "rollout", "status", "deployment/web", "--timeout=2m")
	ips := strings.Fields(kubectl(t, "-n", ns, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}"))
	if len(ips) != 2 || ips[0] == ips[1] {
		t.Errorf("pod addresses %v, want two", ips)
	}
	kubectl(t, "-n", ns, "scale", "deployment/web", "--replicas=1")
	eventually(t, "one pod", func() error {
		if n := len(strings.Fields(kubectl(t, "-n", ns, "get", "pods", "-o", "name"))); n != 1 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
}

func TestServiceAccountToken(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	pod := newPod(ns, "token", edge1, shell("main", idle))
	pod.Spec.AutomountServiceAccountToken = nil
	runPod(t, pod)
	got := kubectl(t, "-n", ns, "exec", "token", "--", "sh", "-c",
		"cd /var/run/secrets/kubernetes.io/serviceaccount; cat namespace; echo; tr -cd . <token; head -1 ca.crt")
	if want := ns + "\n..-----BEGIN CERTIFICATE-----\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEnvironmentAndCommand(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	must(t, theLab.Apply(t.Context(), []byte(strings.ReplaceAll(`
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: NS}
data: {colour: red, file.txt: "in a file"}
---
apiVersion: v1
kind: Secret
metadata: {name: secret, namespace: NS}
stringData: {password: "p w"}
`, "NS", ns))))
	c := corev1.Container{
		Name: "main", Image: lab.BusyboxImage,
		Command: []string{"sh", "-c", `echo "$0|$1|$2"; env | grep ^E_ | sort; sleep 100000`},
		Args:    []string{"zero", "$(E_PLAIN) one", "$$(E_PLAIN)"},
		Env: []corev1.EnvVar{
			{Name: "E_PLAIN", Value: "a b"},
			{Name: "E_REF", Value: "<$(E_PLAIN)>"},
			{Name: "E_CM", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Key: "colour",
			}}},
			{Name: "E_SECRET", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "secret"}, Key: "password",
			}}},
			{Name: "E_POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
			{Name: "E_NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "settings", MountPath: "/settings"}},
	}
	pod := newPod(ns, "environment", edge1, c)
	pod.Spec.Volumes = []corev1.Volume{{Name: "settings", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "settings"},
	}}}}
	runPod(t, pod)
	want := "zero|a b one|$(E_PLAIN)\nE_CM=red\nE_NODE=edge1\nE_PLAIN=a b\nE_POD=environment\nE_REF=<a b>\nE_SECRET=p w\n"
	if d := cmp.Diff(want, kubectl(t, "-n", ns, "logs", "environment")); d != "" {
		t.Error(d)
	}
	if got := kubectl(t, "-n", ns, "exec", "environment", "--", "cat", "/settings/file.txt"); got != "in a file" {
		t.Errorf("the ConfigMap's file holds %q", got)
	}
	if got := kubectl(t, "-n", ns, "exec", "environment", "--", "hostname"); got != "environment\n" {
		t.Errorf("host name %q", got)
	}
	// A volume follows its object; the environment is the container's own.
	kubectl(t, "-n", ns, "patch", "configmap", "settings", "--type=merge", "-p", `{"data":{"file.txt":"changed"}}`)
	eventually(t, "the changed ConfigMap's file", func() error {
		if got := kubectl(t, "-n", ns, "exec", "environment", "--", "cat", "/settings/file.txt"); got != "changed" {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
}

func TestEmptyDirIsShared(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	writer := shell("writer", "echo from the writer >/data/file; "+idle)
	reader := shell("reader", "while [ ! -e /data/file ]; do sleep 0.1; done; cat /data/file; "+idle)
	mount := []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	writer.VolumeMounts, reader.VolumeMounts = mount, mount
	pod := newPod(ns, "shared", edge1, writer, reader)
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	runPod(t, pod)
	eventually(t, "what the reader reads", func() error {
		if got := kubectl(t, "-n", ns, "logs", "shared", "-c", "reader"); got != "from the writer\n" {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	kubectl(t, "-n", ns, "exec", "shared", "-c", "reader", "--", "sh", "-c", "echo back >/data/file")
	if got := kubectl(t, "-n", ns, "exec", "shared", "-c", "writer", "--", "cat", "/data/file"); got != "back\n" {
		t.Errorf("the writer reads %q", got)
	}
}

func TestRestartPolicy(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	tests := []struct {
		name     string
		policy   corev1.RestartPolicy
		script   string
		phase    corev1.PodPhase
		code     int32
		restarts int32
	}{
		{"never-fails", corev1.RestartPolicyNever, "exit 7", corev1.PodFailed, 7, 0},
		{"never-succeeds", corev1.RestartPolicyNever, "exit 0", corev1.PodSucceeded, 0, 0},
		{"on-failure-succeeds", corev1.RestartPolicyOnFailure, "exit 0", corev1.PodSucceeded, 0, 0},
		// The second try finds what the first has left in the volume.
		{"on-failure-retries", corev1.RestartPolicyOnFailure, "[ -e /data/x ] && exit 0; touch /data/x; exit 9", corev1.PodSucceeded, 0, 1},
	}
	for _, tt := range tests {
		c := shell("main", tt.script)
		c.VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		pod := newPod(ns, tt.name, edge1, c)
		pod.Spec.RestartPolicy = tt.policy
		pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		create(t, pod)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := waitPod(t, ns, tt.name, func(p *corev1.Pod) error {
				if p.Status.Phase != tt.phase {
					return fmt.Errorf("phase %s", p.Status.Phase)
				}
				return nil
			})
			if len(pod.Status.ContainerStatuses) != 1 {
				t.Fatalf("container statuses %+v", pod.Status.ContainerStatuses)
			}
			c := pod.Status.ContainerStatuses[0]
			end := c.State.Terminated
			if end == nil || end.ExitCode != tt.code || c.RestartCount != tt.restarts || end.StartedAt.IsZero() || end.FinishedAt.IsZero() {
				t.Fatalf("state %+v after %d restarts, want exit code %d after %d", c.State, c.RestartCount, tt.code, tt.restarts)
			}
			want := "Completed"
			if tt.code != 0 {
				want = "Error"
			}
			if end.Reason != want {
				t.Errorf("reason %q, want %q", end.Reason, want)
			}
			if last := c.LastTerminationState.Terminated; tt.restarts > 0 && (last == nil || last.ExitCode != 9) {
				t.Errorf("last state %+v, want exit code 9", c.LastTerminationState)
			}
		})
	}
}

func TestDeletedPodIsGone(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	c := shell("main", idle)
	c.VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	pod := newPod(ns, "brief", e, c)
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	pod = runPod(t, pod)
	id := containerID(t, pod, "main")
	volumes := e.Path("state", "pods", string(pod.UID), "volumes")
	kubectl(t, "-n", ns, "delete", "pod", "brief", "--timeout=1m")
	if _, err := getPod(t, ns, "brief"); err == nil || !strings.Contains(err.Error(), "NotFound") {
		t.Errorf("get: %v", err)
	}
	eventually(t, "an edge without containers", func() error {
		ids, err := e.Containers(t.Context())
		if err == nil && len(ids) > 0 {
			return fmt.Errorf("containers %v, that of the pod among them: %t", ids, slices.Contains(ids, id))
		}
		return err
	})
	eventually(t, "an edge without volumes", func() error {
		if out, err := e.Run(t.Context(), "ls", volumes); err == nil && out != "" {
			return fmt.Errorf("%s holds %q", volumes, out)
		}
		return nil
	})
}

func TestCrashLoop(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	create(t, newPod(ns, "crash", edge1, shell("main", "echo once more; exit 3")))
	pod := waitPod(t, ns, "crash", func(p *corev1.Pod) error {
		if s := p.Status.ContainerStatuses; len(s) != 1 || s[0].RestartCount < 2 {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	c := pod.Status.ContainerStatuses[0]
	if last := c.LastTerminationState.Terminated; last == nil || last.ExitCode != 3 || last.Reason != "Error" {
		t.Errorf("last state %+v, want exit code 3", last)
	}
	if pod.Status.Phase != corev1.PodRunning {
		t.Errorf("phase %s; a pod that restarts is running", pod.Status.Phase)
	}
	eventually(t, "an event about it", func() error {
		if out := kubectl(t, "-n", ns, "get", "events", "-o", "jsonpath={.items[*].reason}"); !strings.Contains(out, "BackOff") {
			return fmt.Errorf("events are %s", out)
		}
		return nil
	})
}
