package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

// TestDebugEphemeral adds containers to a pod that runs.
func TestDebugEphemeral(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	before := runPod(t, newPod(ns, "web", edge1, shell("main", "exec httpd -f -p 8080")))
	j := join(t, client{}, "-n", ns, "debug", "-i", "web", "--image="+lab.BusyboxImage, "--target=main", "-c", "look", "--", "sh")
	j.say(t, "ps; wget -q -O- http://127.0.0.1:8080/etc/hostname; echo looked")
	j.until(t, "looked\n")
	// The processes and the network are the target's.
	if out := j.out.text(); !strings.Contains(out, "httpd -f -p 8080") {
		t.Errorf("it sees %q", out)
	}
	j.say(t, "exit 6")
	_ = j.cmd.Wait()
	kubectl(t, "-n", ns, "debug", "web", "--image="+lab.BusyboxImage, "-c", "second", "--", "sh", "-c", "echo I was here; exit 0")
	after := waitPod(t, ns, "web", func(p *corev1.Pod) error {
		if n := len(p.Status.EphemeralContainerStatuses); n != 2 {
			return fmt.Errorf("%d statuses of ephemeral containers", n)
		}
		for _, s := range p.Status.EphemeralContainerStatuses {
			if end := s.State.Terminated; end == nil || end.ExitCode != map[string]int32{"look": 6}[s.Name] || s.RestartCount != 0 {
				return fmt.Errorf("%s is %+v after %d restarts", s.Name, s.State, s.RestartCount)
			}
		}
		return nil
	})
	if err := running(after); err != nil {
		t.Errorf("the pod depends on its ephemeral containers: %v", err)
	}
	sameContainers(t, before)
	if log := kubectl(t, "-n", ns, "logs", "web", "-c", "second"); log != "I was here\n" {
		t.Errorf("the log is %q", log)
	}
}

// TestDebugCopy looks at a copy of a pod, with its processes.
func TestDebugCopy(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	runPod(t, newPod(ns, "web", edge1, shell("main", "exec httpd -f -p 8080")))
	kubectl(t, "-n", ns, "debug", "web", "--image="+lab.BusyboxImage, "--copy-to=copy", "--share-processes", "-c", "look", "--",
		"sh", "-c", "until ps | grep -v grep | grep -q httpd; do sleep 0.2; done; echo found; "+idle)
	waitPod(t, ns, "copy", running)
	eventually(t, "the other's process", func() error {
		if log := kubectl(t, "-n", ns, "logs", "copy", "-c", "look"); log != "found\n" {
			return fmt.Errorf("the log is %q", log)
		}
		return nil
	})
}

// TestDebugNode looks at the node from a pod with its namespaces and files.
func TestDebugNode(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	j := join(t, client{}, "-n", ns, "debug", "-i", "node/"+edge1.Name, "--image="+lab.BusyboxImage, "--", "sh")
	j.say(t, "ls /host/etc/hostname /proc/1/cmdline && ps | grep -c containerd-shim && echo looked")
	j.until(t, "looked\n")
	if out := j.out.text(); !strings.Contains(out, "/host/etc/hostname") {
		t.Errorf("it sees %q", out)
	}
	j.say(t, "exit")
	if err := j.cmd.Wait(); err != nil {
		t.Errorf("it ends with %v, %q", err, j.errs.text())
	}
}
