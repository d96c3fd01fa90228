package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// agentMemory is the memory cgroup of an agent on a small gateway.
const agentMemory = 64 << 20

// TestSmallMemory runs 30 pods by an agent that has a memory cgroup of 64 MiB, with the
// pages of its program in it: it comes up with them, answers, and nobody kills it.
func TestSmallMemory(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	must(t, e.StopAgent(t.Context()))
	_, err := e.BoundAgent(t.Context(), agentMemory)
	must(t, err)
	pid, _ := e.AgentPID()
	list := &corev1.PodList{}
	list.APIVersion, list.Kind = "v1", "PodList"
	for i := range 30 {
		c := shell("main", idle)
		if i%3 == 0 {
			c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 2}
		}
		list.Items = append(list.Items, *newPod(ns, fmt.Sprintf("pod%d", i), e, c))
	}
	for i := range list.Items { // without a scheduler that has many tests to serve
		list.Items[i].Spec.NodeName = e.Name
	}
	create(t, list)
	for i := range list.Items {
		waitPod(t, ns, list.Items[i].Name, running)
	}
	for i := range 5 {
		execWorks(t, ns, fmt.Sprintf("pod%d", i))
	}
	must(t, e.KillAgent(t.Context()))
	dir, err := e.BoundAgent(t.Context(), agentMemory)
	must(t, err)
	again, _ := e.AgentPID()
	must(t, e.WaitReady(t.Context(), patience))
	kubectl(t, "-n", ns, "delete", "pod", "pod0", "pod1", "pod2")
	execWorks(t, ns, "pod29")
	if now, ok := e.AgentPID(); !ok || now != again || again == pid {
		t.Errorf("the agent was process %d, then %d, and is %d: %t", pid, again, now, ok)
	}
	for _, file := range []string{"memory.max_usage_in_bytes", "memory.peak"} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			continue // of the other version of cgroups
		}
		peak, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		must(t, err)
		t.Logf("at most %.1f MB of %.1f were in use", float64(peak)/1e6, float64(agentMemory)/1e6)
	}
}
