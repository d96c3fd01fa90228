package e2e_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

const proxyAccount = "system:serviceaccount:skerry-system:cloudproxy"

// seconds are those of a pod's tolerations of a node that is away, -1 for ever.
func seconds(pod *corev1.Pod) map[string]int64 {
	m := make(map[string]int64)
	for _, o := range pod.Spec.Tolerations {
		if o.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		m[o.Key] = -1
		if o.TolerationSeconds != nil {
			m[o.Key] = *o.TolerationSeconds
		}
	}
	return m
}

func wantSeconds(notReady, unreachable int64) func(*corev1.Pod) error {
	return func(pod *corev1.Pod) error {
		got := seconds(pod)
		if len(got) != 2 || got[corev1.TaintNodeNotReady] != notReady || got[corev1.TaintNodeUnreachable] != unreachable {
			return fmt.Errorf("tolerations of a node that is away: %v", got)
		}
		return nil
	}
}

// TestEdgeAway has the cluster believe that an edge is lost, evict from it who may
// be evicted, delete and replace others, and has the edge come back.
func TestEdgeAway(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	stays := newPod(ns, "stays", e, shell("main", idle))
	leaves := newPod(ns, "leaves", e, shell("main", idle))
	five := int64(5)
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		leaves.Spec.Tolerations = append(leaves.Spec.Tolerations, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &five,
		})
	}
	mayLeave := newPod(ns, "may-leave", e, shell("main", idle))
	mayLeave.Annotations = map[string]string{"skerry.io/evict-when-offline": "true"}
	doomed := newPod(ns, "doomed", e, shell("main", idle))
	for _, pod := range []*corev1.Pod{stays, leaves, mayLeave, doomed} {
		create(t, pod)
	}
	create(t, set(ns, e))
	for _, name := range []string{"stays", "leaves", "may-leave", "doomed", "db-0"} {
		waitPod(t, ns, name, running)
	}
	waitPod(t, ns, "stays", wantSeconds(-1, -1))
	waitPod(t, ns, "leaves", wantSeconds(5, 5))
	waitPod(t, ns, "may-leave", wantSeconds(300, 300))
	old, err := getPod(t, ns, "db-0")
	must(t, err)

	must(t, e.KillAgent(t.Context()))
	away := time.Now()
	waitPod(t, ns, "leaves", func(pod *corev1.Pod) error {
		if pod.DeletionTimestamp == nil {
			return errors.New("it is not evicted")
		}
		return nil
	})
	t.Logf("evicted %v after the agent's death", time.Since(away).Round(time.Second))
	stays, err = getPod(t, ns, "stays")
	must(t, err)
	if stays.DeletionTimestamp != nil {
		t.Error("the pod that stays was evicted")
	}
	kubectl(t, "-n", ns, "delete", "pod", "doomed", "--wait=false")
	kubectl(t, "-n", ns, "delete", "pod", "db-0", "--force")
	replaced := waitPod(t, ns, "db-0", func(pod *corev1.Pod) error {
		if pod.UID == old.UID || pod.Spec.NodeName == "" {
			return fmt.Errorf("UID %s on %q", pod.UID, pod.Spec.NodeName)
		}
		return nil
	})

	must(t, e.StartAgent(t.Context()))
	must(t, e.WaitReady(t.Context(), patience))
	for _, name := range []string{"leaves", "doomed"} {
		eventually(t, "the end of pod "+name, func() error {
			if r := try(t, "-n", ns, "get", "pod", name); r.err == nil || !strings.Contains(r.stderr, "NotFound") {
				return errors.New("it is still there")
			}
			return nil
		})
	}
	now := waitPod(t, ns, "db-0", running)
	if now.UID != replaced.UID {
		t.Errorf("the pod that took the name has UID %s, had %s", now.UID, replaced.UID)
	}
	// One sandbox and one container each: those that stay, and no one else's.
	eventually(t, "the containers of deleted pods to end", func() error {
		tasks, err := e.Tasks(t.Context())
		if err == nil && (len(tasks) != 6 || slices.Contains(tasks, containerID(t, old, "main"))) {
			return fmt.Errorf("tasks are %v", tasks)
		}
		return err
	})
	waitPod(t, ns, "stays", func(pod *corev1.Pod) error {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("conditions %v", pod.Status.Conditions)
	})
	sameContainers(t, stays)
}

// set is a StatefulSet whose pod is bound to the edge whatever taints it has.
func set(ns string, e *lab.Edge) *appsv1.StatefulSet {
	labels := map[string]string{"app": "db"}
	pod := newPod(ns, "", e, shell("main", idle))
	pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	one := int32(1)
	return &appsv1.StatefulSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod.Spec},
		},
	}
}

// TestProxyMayOnlyGiveTolerations: its right to patch pods is no right to run what
// it likes.
func TestProxyMayOnlyGiveTolerations(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	pod := newPod(ns, "pod", edge1, shell("main", idle))
	pod.Spec.NodeSelector["kubernetes.io/hostname"] = "nowhere"
	create(t, pod)
	patch := func(text string) result {
		return try(t, "--as", proxyAccount, "-n", ns, "patch", "pod", "pod", "--type", "strategic", "-p", text)
	}
	for _, text := range []string{
		`{"spec":{"containers":[{"name":"main","image":"other"}]}}`,
		`{"spec":{"activeDeadlineSeconds":1}}`,
		`{"metadata":{"labels":{"app":"other"}}}`,
		`{"metadata":{"annotations":{"a":"b"}}}`,
		`{"metadata":{"finalizers":["example.com/f"]}}`,
	} {
		eventually(t, "a refusal of "+text, func() error { // a policy is in force a moment after its creation
			if r := patch(text); r.err == nil || !strings.Contains(r.stderr, "may change nothing") {
				return fmt.Errorf("answer %q: %w", r.stderr, r.err)
			}
			return nil
		})
	}
	if r := patch(`{"spec":{"tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute"},{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute"}]}}`); r.err != nil {
		t.Errorf("tolerations: %v", r.err)
	}
}
