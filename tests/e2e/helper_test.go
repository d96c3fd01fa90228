package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

// newMachine is an edge machine of the test's own, without Skerry on it.
func newMachine(t *testing.T) *lab.Edge {
	t.Helper()
	n := int(lastEdge.Add(1))
	e, err := theLab.Edge(fmt.Sprintf("edge%d", n), n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanupTime)
		defer cancel()
		err := e.Down(ctx)
		if _, kerr := theLab.Kubectl(ctx, "delete", "node", e.Name, "--ignore-not-found", "--wait=false"); err == nil {
			err = kerr
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err := e.StartMachine(t.Context(), "A"); err != nil {
		t.Fatal(err)
	}
	return e
}

// newEdge is a joined edge of the test's own, which it may break.
func newEdge(t *testing.T) *lab.Edge {
	t.Helper()
	e := newMachine(t)
	must(t, e.Up(t.Context(), ""))
	must(t, e.WaitReady(t.Context(), patience))
	return e
}

// newNamespace is a namespace of the test's own, ready for pods.
func newNamespace(t *testing.T) string {
	t.Helper()
	ns := fmt.Sprintf("e2e-%08x", rand.Uint32())
	kubectl(t, "create", "namespace", ns)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanupTime)
		defer cancel()
		if t.Failed() {
			explain(ctx, t, ns)
		}
		if _, err := theLab.Kubectl(ctx, "delete", "namespace", ns, "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "a ServiceAccount for pods", func() error {
		return try(t, "-n", ns, "get", "serviceaccount", "default").err
	})
	return ns
}

// explain logs what one would look at first.
func explain(ctx context.Context, t *testing.T, ns string) {
	t.Helper()
	for _, args := range [][]string{
		{"get", "nodes"},
		{"-n", ns, "get", "pods", "-o", "wide"},
		{"-n", ns, "get", "pods", "-o", "jsonpath={range .items[*]}{.metadata.name}: {.status}{\"\\n\"}{end}"},
		{"-n", ns, "get", "events"},
	} {
		out, err := theLab.Kubectl(ctx, args...)
		t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls cond until it returns nil; it fails the test after patience.
func eventually(t *testing.T, what string, cond func() error) {
	t.Helper()
	must(t, lab.Until(t.Context(), patience, what, cond))
}

// kubectl must succeed; it returns standard output.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	r := try(t, args...)
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.out
}

// result is how a command ended.
type result struct {
	out, stderr string
	code        int
	err         error
}

// try runs a kubectl that may fail.
func try(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := theLab.Kubectl(ctx, args...)
	return resultOf(t, out, err)
}

func resultOf(t *testing.T, out string, err error) result {
	t.Helper()
	r := result{out: out, err: err}
	if cmdErr := (*lab.CommandError)(nil); errors.As(err, &cmdErr) {
		r.stderr = cmdErr.Stderr
		r.code = -1
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			r.code = exit.ExitCode()
		}
	} else if err != nil {
		t.Fatal(err)
	}
	return r
}

// shell is a container that runs a script.
func shell(name, script string) corev1.Container {
	return corev1.Container{Name: name, Image: lab.BusyboxImage, Command: []string{"sh", "-c", script}}
}

// idle is a script that only waits.
const idle = "sleep 100000"

// newPod is a pod for an edge. It has no ServiceAccount token, so that only the
// test about tokens depends on them.
func newPod(ns, name string, e *lab.Edge, containers ...corev1.Container) *corev1.Pod {
	grace, no := int64(1), false
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: corev1.PodSpec{
			NodeSelector:                  map[string]string{"kubernetes.io/hostname": e.Name, "node-role.kubernetes.io/edge": ""},
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  &no,
			Containers:                    containers,
		},
	}
}

// create applies an object.
func create(t *testing.T, obj any) {
	t.Helper()
	b, err := json.Marshal(obj)
	must(t, err)
	must(t, theLab.Apply(t.Context(), b))
}

// runPod creates a pod and waits until all its containers are ready.
func runPod(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	create(t, pod)
	return waitPod(t, pod.Namespace, pod.Name, running)
}

func getPod(t *testing.T, ns, name string) (*corev1.Pod, error) {
	t.Helper()
	r := try(t, "-n", ns, "get", "pod", name, "-o", "json")
	if r.err != nil {
		return nil, r.err
	}
	pod := &corev1.Pod{}
	return pod, json.Unmarshal([]byte(r.out), pod)
}

// waitPod waits until cond returns nil for the pod.
func waitPod(t *testing.T, ns, name string, cond func(*corev1.Pod) error) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	eventually(t, "pod "+name, func() (err error) {
		if pod, err = getPod(t, ns, name); err != nil {
			return err
		}
		return cond(pod)
	})
	return pod
}

func running(pod *corev1.Pod) error {
	if pod.Status.Phase != corev1.PodRunning || len(pod.Status.ContainerStatuses) != len(pod.Spec.Containers) {
		return fmt.Errorf("phase %q, %d container statuses", pod.Status.Phase, len(pod.Status.ContainerStatuses))
	}
	for _, c := range pod.Status.ContainerStatuses {
		if !c.Ready {
			return fmt.Errorf("container %s is not ready: %+v", c.Name, c.State)
		}
	}
	return nil
}

// containerID is the runtime's id of a container.
func containerID(t *testing.T, pod *corev1.Pod, name string) string {
	t.Helper()
	for _, c := range pod.Status.ContainerStatuses {
		if c.Name == name {
			_, id, ok := strings.Cut(c.ContainerID, "://")
			if !ok {
				t.Fatalf("container id %q of %s", c.ContainerID, name)
			}
			return id
		}
	}
	t.Fatalf("pod %s has no container %s", pod.Name, name)
	return ""
}

// execWorks waits until an exec in the pod's first container works.
func execWorks(t *testing.T, ns, name string) {
	t.Helper()
	eventually(t, "exec in "+name, func() error {
		r := try(t, "-n", ns, "exec", name, "--", "echo", "here")
		if r.err == nil && r.out != "here\n" {
			return fmt.Errorf("output %q", r.out)
		}
		return r.err
	})
}

// sameContainers fails the test when the pod's containers are not those of
// before.
func sameContainers(t *testing.T, before *corev1.Pod) {
	t.Helper()
	now, err := getPod(t, before.Namespace, before.Name)
	must(t, err)
	if now.UID != before.UID {
		t.Errorf("pod %s was replaced", before.Name)
	}
	for _, c := range now.Status.ContainerStatuses {
		if got, want := containerID(t, now, c.Name), containerID(t, before, c.Name); got != want || c.RestartCount != 0 {
			t.Errorf("container %s: id %s after %d restarts, was %s", c.Name, got, c.RestartCount, want)
		}
	}
}

// fails checks how a command fails: an exit code, one line, and words in it.
func fails(t *testing.T, err error, words ...string) {
	t.Helper()
	failsWith(t, "", err, words...)
}

// failsWith is fails for a command that tells details in its output.
func failsWith(t *testing.T, out string, err error, words ...string) {
	t.Helper()
	cmdErr := (*lab.CommandError)(nil)
	if !errors.As(err, &cmdErr) {
		t.Fatalf("got %v, want a command that fails", err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(cmdErr.Stderr), "\nSee '") // where to read about the flags
	if line == "" || strings.Contains(line, "\n") {
		t.Errorf("want one line of error, got %q", line)
	}
	for _, w := range words {
		if !strings.Contains(strings.ToLower(out+line), strings.ToLower(w)) {
			t.Errorf("the error %q with the output %q does not say %q", line, out, w)
		}
	}
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() <= 0 {
		t.Errorf("want an exit code above 0, got %v", cmdErr.Err)
	}
}

// within bounds a command that must not hang.
func within(t *testing.T, d time.Duration, run func(ctx context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	err := run(ctx)
	if ctx.Err() != nil {
		t.Fatalf("it hangs: %v", err)
	}
	return err
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}
