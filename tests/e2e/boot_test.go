package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

// bootTime is how soon all pods are back: the five seconds that the agent may
// take, and what nine containers need to start on a machine that tests keep busy.
const bootTime = 5*time.Second + 20*time.Second

// TestBootOrder boots an edge with no cloud: its pods are back within seconds, the
// important ones first.
func TestBootOrder(t *testing.T) {
	ns := newNamespace(t)
	e := newEdge(t)
	class := &schedulingv1.PriorityClass{
		TypeMeta:   metav1.TypeMeta{APIVersion: "scheduling.k8s.io/v1", Kind: "PriorityClass"},
		ObjectMeta: metav1.ObjectMeta{Name: ns}, Value: 1000,
	}
	create(t, class)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanupTime)
		defer cancel()
		if _, err := theLab.Kubectl(ctx, "delete", "priorityclass", ns, "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	classes := []string{"system-node-critical", ns, ""}
	var names []string
	for i, class := range classes {
		for j := range 3 {
			// Uptime, unlike the time of the log, has hundredths.
			pod := newPod(ns, fmt.Sprintf("tier%d-%d", i, j), e, shell("main", "cut -d' ' -f1 /proc/uptime; "+idle))
			pod.Spec.PriorityClassName = class
			create(t, pod)
			names = append(names, pod.Name)
		}
	}
	for _, name := range names {
		waitPod(t, ns, name, running)
	}
	restoreProxy(t)
	must(t, theLab.HaltProxy(t.Context()))
	must(t, e.KillAgent(t.Context()))
	tasks, err := e.Tasks(t.Context())
	must(t, err)
	for _, id := range tasks {
		must(t, e.KillTask(t.Context(), id))
	}
	booted := time.Now()
	must(t, e.StartAgent(t.Context()))
	must(t, lab.Until(t.Context(), patience, "all pods to be back", func() error {
		var list corev1.PodList
		r := here(t, e, "get", "pods", "-n", ns, "-o", "json")
		if r.err != nil {
			return r.err
		}
		if err := json.Unmarshal([]byte(r.out), &list); err != nil {
			return err
		}
		if len(list.Items) != len(names) {
			return fmt.Errorf("%d pods", len(list.Items))
		}
		for i := range list.Items {
			p := &list.Items[i]
			if err := running(p); err != nil {
				return err
			}
			if p.Status.ContainerStatuses[0].RestartCount != 1 {
				return fmt.Errorf("pod %s has not restarted yet", p.Name)
			}
		}
		return nil
	}))
	took := time.Since(booted)
	t.Logf("%d pods are back after %v", len(names), took.Round(10*time.Millisecond))
	if took > bootTime {
		t.Errorf("pods are back after %v", took)
	}
	began := map[string]float64{}
	for _, name := range names {
		out := here(t, e, "logs", name).out
		if began[name], err = strconv.ParseFloat(strings.TrimSpace(out), 64); err != nil {
			t.Fatalf("log of %s: %q", name, out)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return int(100 * (began[a] - began[b])) })
	// On a machine that is slow beyond the hold the lower tiers may mix.
	places := make([]int, len(classes))
	for i, name := range names {
		places[name[len("tier")]-'0'] += i
	}
	if places[0] != 0+1+2 || places[1] >= places[2] {
		t.Errorf("they came back in the order %v", names)
	}
}
