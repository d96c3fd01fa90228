package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/skerry-io/skerry/tests/lab"
)

// The tests of this file that touch the proxy are not parallel: Go runs them
// while all parallel ones wait.

func TestAgentKilled(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	pod := runPod(t, newPod(ns, "survivor", e, shell("main", idle), shell("second", idle)))
	before, err := e.Tasks(t.Context())
	must(t, err)

	must(t, e.KillAgent(t.Context()))
	must(t, e.StartAgent(t.Context()))
	must(t, e.WaitReady(t.Context(), patience))
	execWorks(t, ns, "survivor")
	after, err := e.Tasks(t.Context())
	must(t, err)
	if slices.Sort(before); !slices.Equal(before, sorted(after)) {
		t.Errorf("tasks were %v, are %v", before, after)
	}
	sameContainers(t, pod)
}

// A store that was damaged is moved away, as its error says. The pods that the new
// one does not have yet must not be taken for deleted ones.
func TestStoreLost(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	pod := runPod(t, newPod(ns, "survivor", e, shell("main", idle)))
	before, err := e.Tasks(t.Context())
	must(t, err)
	must(t, e.KillAgent(t.Context()))
	must(t, os.Rename(filepath.Join(e.StateDir(), "db"), filepath.Join(e.StateDir(), "db.damaged")))
	must(t, e.StartAgent(t.Context()))
	must(t, e.WaitReady(t.Context(), patience))
	execWorks(t, ns, "survivor")
	after, err := e.Tasks(t.Context())
	must(t, err)
	if slices.Sort(before); !slices.Equal(before, sorted(after)) {
		t.Errorf("tasks were %v, are %v", before, after)
	}
	sameContainers(t, pod)
}

// A machine that lost its disk has no key: its name alone gets it nothing, and neither
// does the token of its first join. With a new one it is the same Node again, and runs
// what is bound to that.
func TestDiskLost(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newMachine(t)
	first, err := theLab.CreateToken(t.Context())
	must(t, err)
	must(t, e.StartMachine(t.Context(), ""))
	must(t, e.Join(t.Context(), first))
	must(t, e.StartAgent(t.Context()))
	must(t, e.WaitReady(t.Context(), patience))
	runPod(t, newPod(ns, "bound", e, shell("main", idle)))
	uid := func() string { return kubectl(t, "get", "node", e.Name, "-o", "jsonpath={.metadata.uid}") }
	before := uid()

	must(t, e.Down(t.Context()))
	must(t, e.StartMachine(t.Context(), ""))
	joinFails(t, e, first, nil, "token")
	second, err := theLab.CreateToken(t.Context(), "--node", e.Name)
	must(t, err)
	must(t, e.Join(t.Context(), second))
	must(t, e.StartAgent(t.Context()))
	must(t, e.WaitReady(t.Context(), patience))
	if after := uid(); after != before {
		t.Errorf("the Node was %s and is %s", before, after)
	}
	eventually(t, "a command in the pod", func() error { return try(t, "-n", ns, "exec", "bound", "--", "true").err })
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

func TestProxyKilled(t *testing.T) {
	ns := newNamespace(t)
	pod := runPod(t, newPod(ns, "survivor", edge1, shell("main", idle)))
	restoreProxy(t)
	must(t, theLab.KillProxy(t.Context()))
	if r := try(t, "-n", ns, "exec", "survivor", "--", "true"); r.err == nil {
		t.Error("exec works without a proxy: this test tests nothing")
	}
	must(t, theLab.StartProxy(t.Context()))
	execWorks(t, ns, "survivor")
	must(t, edge1.WaitReady(t.Context(), patience))
	sameContainers(t, pod)
}

// restoreProxy sees to a proxy that runs after the test.
func restoreProxy(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanupTime)
		defer cancel()
		if err := errors.Join(theLab.StartProxy(ctx), edge1.WaitReady(ctx, patience)); err != nil {
			t.Error(err)
		}
	})
}

func TestLinkKilled(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	pod := runPod(t, newPod(ns, "survivor", e, shell("main", idle)))
	must(t, e.KillLink(t.Context()))
	if err := e.SetLink(t.Context(), "stats"); err == nil {
		t.Fatal("the link is still there")
	}
	must(t, e.StartLink(t.Context(), "B"))
	execWorks(t, ns, "survivor")
	sameContainers(t, pod)
}

// TestNATRebinding moves the edge's port outside, as a carrier's NAT does.
func TestNATRebinding(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	pod := runPod(t, newPod(ns, "survivor", e, shell("main", idle)))
	for _, offset := range []string{"1000", "2000", "0"} {
		must(t, e.SetLink(t.Context(), "nat", offset))
		execWorks(t, ns, "survivor")
	}
	sameContainers(t, pod)
}

// TestNoCloud restarts the agent while the proxy is down: what the edge knows
// is in its store, and it goes on to manage its pods.
func TestNoCloud(t *testing.T) {
	ns := newNamespace(t)
	e := newEdge(t)
	pod := runPod(t, newPod(ns, "survivor", e, shell("main", idle)))
	old := containerID(t, pod, "main")
	restoreProxy(t)
	must(t, theLab.HaltProxy(t.Context()))
	must(t, e.KillAgent(t.Context()))
	must(t, e.StartAgent(t.Context()))
	before, err := e.Tasks(t.Context())
	must(t, err)
	if !slices.Contains(before, old) || len(before) != 2 {
		t.Fatalf("tasks are %v, want the pod's sandbox and container %s", before, old)
	}
	must(t, e.KillTask(t.Context(), old))
	eventually(t, "the container to be started again with no cloud", func() error {
		now, err := e.Tasks(t.Context())
		if err == nil && (slices.Contains(now, old) || len(now) != 2) {
			return fmt.Errorf("tasks are %v, were %v", now, before)
		}
		return err
	})
	must(t, theLab.StartProxy(t.Context()))
	must(t, e.WaitReady(t.Context(), patience))
	execWorks(t, ns, "survivor")
	eventually(t, "the restart to be reported", func() error {
		now, err := getPod(t, ns, "survivor")
		if err != nil {
			return err
		}
		if c := now.Status.ContainerStatuses[0]; now.UID != pod.UID || c.RestartCount != 1 || c.State.Running == nil {
			return fmt.Errorf("status %+v", c)
		}
		return nil
	})
}

// TestMachineRestarted takes agent and containers away as a reboot does.
func TestMachineRestarted(t *testing.T) {
	ns := newNamespace(t)
	e := newEdge(t)
	pod := runPod(t, newPod(ns, "survivor", e, shell("main", idle)))
	restoreProxy(t)
	must(t, theLab.HaltProxy(t.Context()))
	must(t, e.KillAgent(t.Context()))
	tasks, err := e.Tasks(t.Context())
	must(t, err)
	for _, id := range tasks {
		must(t, e.KillTask(t.Context(), id))
	}
	must(t, e.StartAgent(t.Context()))
	eventually(t, "the pod to be back with no cloud", func() error {
		now, err := e.Tasks(t.Context())
		if err == nil && len(now) != 2 {
			return fmt.Errorf("tasks are %v", now)
		}
		return err
	})
	must(t, theLab.StartProxy(t.Context()))
	execWorks(t, ns, "survivor")
	now, err := getPod(t, ns, "survivor")
	must(t, err)
	if now.UID != pod.UID {
		t.Error("the pod was replaced, not restarted")
	}
	must(t, lab.Until(t.Context(), patience, "a running pod", func() error {
		now, err := getPod(t, ns, "survivor")
		if err != nil {
			return err
		}
		return running(now)
	}))
}
