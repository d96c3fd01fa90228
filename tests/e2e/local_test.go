package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

// here runs skerry on the edge's own machine, where no kubeconfig is.
func here(t *testing.T, e *lab.Edge, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	at := len(args)
	for i, a := range args {
		if a == "--" {
			at = i
			break
		}
	}
	line := append([]string{"env", "KUBECONFIG=/nowhere", theLab.Bin("skerry")}, args[:at]...)
	line = append(append(line, "--config-dir", e.ConfigDir()), args[at:]...)
	out, err := e.Run(ctx, line...)
	return resultOf(t, out, err)
}

// TestLocalCommands asks the edge itself while there is no cloud.
func TestLocalCommands(t *testing.T) {
	ns := newNamespace(t)
	e := newEdge(t)
	create(t, &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "settings"},
		Data:       map[string]string{"color": "blue"},
	})
	main := shell("main", "echo one; echo two; "+idle)
	main.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
	pod := runPod(t, newPod(ns, "web", e, main, shell("second", idle)))
	if r := here(t, e, "get", "nodes"); r.err != nil || !strings.Contains(r.out, "connected") {
		t.Errorf("with a cloud: %v\n%s", r.err, r.out)
	}
	restoreProxy(t)
	must(t, theLab.HaltProxy(t.Context()))
	must(t, e.KillAgent(t.Context())) // what it knows must come from its store
	must(t, e.StartAgent(t.Context()))

	eventually(t, "the pod in `skerry get pods`", func() error {
		r := here(t, e, "get", "pods", "-n", ns)
		if fields := strings.Fields(r.out); r.err == nil && !strings.Contains(strings.Join(fields, " "), ns+" web 2/2 Running 0") {
			return fmt.Errorf("%s", r.out)
		}
		return r.err
	})
	if r := here(t, e, "get", "nodes", "-o", "wide"); r.err != nil || !strings.Contains(r.out, "Ready") || !strings.Contains(r.out, "offline") {
		t.Errorf("nodes: %v\n%s", r.err, r.out)
	}
	if r := here(t, e, "get", "pods", "web", "-o", "yaml"); r.err != nil || !strings.Contains(r.out, string(pod.UID)) {
		t.Errorf("pod as YAML: %v\n%s", r.err, r.out)
	}
	if r := here(t, e, "get", "configmaps", "-n", ns); r.err != nil || !strings.Contains(r.out, "settings") || strings.Contains(r.out, "blue") {
		t.Errorf("ConfigMaps: %v\n%s", r.err, r.out)
	}
	if r := here(t, e, "get", "configmaps", "settings", "-n", ns, "-o", "yaml"); r.err != nil || !strings.Contains(r.out, "color: blue") {
		t.Errorf("ConfigMap as YAML: %v\n%s", r.err, r.out)
	}
	if r := here(t, e, "logs", "web", "-c", "main", "--tail", "1"); r.err != nil || r.out != "two\n" {
		t.Errorf("log: %v, %q", r.err, r.out)
	}
	if r := here(t, e, "exec", "web", "-c", "main", "--", "sh", "-c", "echo $color; exit 5"); r.out != "blue\n" || r.code != 5 {
		t.Errorf("exec: %v, code %d, %q", r.err, r.code, r.out)
	}
	// A terminal: script(1) makes one, and the shell behind it tells its size.
	tty := fmt.Sprintf("stty cols 91 rows 17; %s exec -it web -c main --config-dir %s -- sh -c 'until stty size | grep 91; do sleep 0.1; done; exit 4'", theLab.Bin("skerry"), e.ConfigDir())
	if _, err := exec.LookPath("script"); err == nil {
		out, err := e.Run(t.Context(), "script", "-qec", tty, "/dev/null")
		if r := resultOf(t, out, err); !strings.Contains(r.out, "17 91") || r.code != 4 {
			t.Errorf("terminal: %v, code %d, %q", r.err, r.code, r.out)
		}
	}
	must(t, e.KillAgent(t.Context()))
	r := here(t, e, "get", "pods")
	if r.err == nil || !strings.Contains(r.stderr, "no edge agent runs on this machine") {
		t.Errorf("without an agent: %v", r.err)
	}
	must(t, e.StartAgent(t.Context()))
	// Nobody but root, whatever the modes of the folders above.
	socket := filepath.Join(e.StateDir(), "run", "agent.sock")
	out, err := e.Run(t.Context(), "setpriv", "--reuid", "65534", "--clear-groups", theLab.Bin("skerry"), "get", "pods", "--socket", socket)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || out != "" {
		t.Errorf("another user is answered: %v, %q", err, out)
	}
}

// TestStaticPods runs a pod from a file, with no cloud, through a boot.
func TestStaticPods(t *testing.T) {
	e := newEdge(t)
	restoreProxy(t)
	must(t, theLab.HaltProxy(t.Context()))
	must(t, e.KillAgent(t.Context()))
	dir := e.Path("manifests")
	must(t, os.Mkdir(dir, 0o755))
	must(t, e.Configure(map[string]string{"staticPodPath": dir}))
	// As in a machine that has never met its cloud.
	must(t, os.Rename(filepath.Join(e.StateDir(), "db"), filepath.Join(e.StateDir(), "db.away")))
	must(t, e.StartAgent(t.Context()))
	yaml := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: local}\nspec:\n  terminationGracePeriodSeconds: 1\n"+
		"  containers:\n  - {name: main, image: %q, command: [sh, -c, %q]}\n", lab.BusyboxImage, "echo here; "+idle)
	must(t, os.WriteFile(filepath.Join(dir, "local.yaml"), []byte(yaml), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "bad.yaml"), []byte("kind: Pot\n"), 0o600))
	runs := func(restarts string) {
		t.Helper()
		eventually(t, "the static pod", func() error {
			r := here(t, e, "get", "pods")
			if fields := strings.Join(strings.Fields(r.out), " "); r.err == nil && !strings.Contains(fields, "default local-"+e.Name+" 1/1 Running "+restarts) {
				return fmt.Errorf("%s", r.out)
			}
			return r.err
		})
	}
	runs("0")
	if r := here(t, e, "logs", "local-"+e.Name); r.out != "here\n" {
		t.Errorf("log %q, %v", r.out, r.err)
	}
	must(t, e.KillAgent(t.Context()))
	tasks, err := e.Tasks(t.Context())
	must(t, err)
	for _, id := range tasks {
		must(t, e.KillTask(t.Context(), id))
	}
	must(t, e.StartAgent(t.Context()))
	runs("1")
	must(t, os.Remove(filepath.Join(dir, "local.yaml")))
	eventually(t, "the pod to be gone with its file", func() error {
		now, err := e.Tasks(t.Context())
		if err == nil && len(now) != 0 {
			return fmt.Errorf("tasks are %v", now)
		}
		return err
	})
}
