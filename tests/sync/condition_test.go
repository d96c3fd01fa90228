package sync

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clouddesired "github.com/skerry-io/skerry/cloudproxy/desired"
)

// conditions runs the cloud half with an edge that is there, and gives its Node.
func conditions(ctx context.Context, t *testing.T, a *api) (*corev1.Node, *clouddesired.Publisher, *sync.WaitGroup) {
	t.Helper()
	edgeNode := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{"skerry.io/edge": "true"}, Annotations: map[string]string{"skerry.io/owner": "cloudproxy"}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
	if _, err := a.CoreV1().Nodes().Create(ctx, edgeNode, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p, wg := publisher(ctx, t, a)
	c, err := clouddesired.NewConditions(clouddesired.Config{Client: a, Log: logger()}, p)
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { _ = c.Run(ctx) })
	return edgeNode, p, wg
}

// TestStoredConditionOfOneThatIsDone: a pod that waited and is finished and deleted
// goes to no edge any more, whoever holds it back, and none is said to have its last
// generation.
func TestStoredConditionOfOneThatIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := newAPI(t)
		_, _, wg := conditions(ctx, t, a)
		pod := testPod("web")
		now := metav1.Now()
		pod.Generation, pod.Finalizers, pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = 5, []string{"example.com/hold"}, &now, new(int64)
		pod.Status = corev1.PodStatus{Phase: corev1.PodSucceeded, ObservedGeneration: 4, Conditions: []corev1.PodCondition{{
			Type: clouddesired.ConditionStored, Status: corev1.ConditionFalse, ObservedGeneration: 3,
		}}}
		a.createPod(ctx, pod)
		wait(time.Minute)
		pod, err := a.CoreV1().Pods("default").Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if c := pod.Status.Conditions[0]; c.Status != corev1.ConditionTrue || c.ObservedGeneration != 4 {
			t.Errorf("condition is %s of generation %d, want True of 4", c.Status, c.ObservedGeneration)
		}
		cancel()
		wg.Wait()
	})
}

// TestStoredConditionOfTwoReplicas: a replica that still has a session of an edge, and
// hears nothing of it any more, does not contradict the one that has the edge now.
func TestStoredConditionOfTwoReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := newAPI(t)
		_, stale, wg := conditions(ctx, t, a)
		silent, conn := net.Pipe()
		wg.Go(func() { _ = stale.Serve(ctx, node, conn) })
		p, wg2 := publisher(ctx, t, a)
		c, err := clouddesired.NewConditions(clouddesired.Config{Client: a, Log: logger()}, p)
		if err != nil {
			t.Fatal(err)
		}
		wg2.Go(func() { _ = c.Run(ctx) })
		l := newLink(ctx, p.Serve)
		e := newEdge(t)
		e.start(ctx, l)
		pod := testPod("web")
		pod.Generation = 1
		a.createPod(ctx, pod) // which waits for its image, and is not reported yet
		wait(time.Minute)
		a.ClearActions()
		wait(10 * time.Minute)
		for _, action := range a.Actions() {
			if action.GetVerb() == "patch" {
				t.Errorf("%v", action)
			}
		}
		pod, err = a.CoreV1().Pods("default").Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if cs := pod.Status.Conditions; len(cs) != 1 || cs[0].Status != corev1.ConditionTrue {
			t.Errorf("conditions of a pod that is stored: %+v", cs)
		}
		e.halt()
		cancel()
		l.cut()
		_ = silent.Close()
		wg.Wait()
		wg2.Wait()
		l.wg.Wait()
	})
}

// TestStoredCondition: a pod says that its spec waits for an edge that is away,
// costs one write when it does and one when it has come, and none otherwise.
func TestStoredCondition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := newAPI(t)
		edgeNode, p, wg := conditions(ctx, t, a)
		l := newLink(ctx, p.Serve)
		e := newEdge(t)
		e.start(ctx, l)

		observed := func(p *corev1.Pod) { p.Status.ObservedGeneration = p.Generation }
		writes := 0
		see := func(what string, status corev1.ConditionStatus, reason string, n int) {
			t.Helper()
			for _, action := range a.Actions() {
				if action.GetVerb() == "patch" && action.GetSubresource() == "status" {
					writes++
				}
			}
			a.ClearActions()
			pod, err := a.CoreV1().Pods("default").Get(ctx, "web", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var got corev1.PodCondition
			for _, c := range pod.Status.Conditions {
				if c.Type == clouddesired.ConditionStored {
					got = c
				}
			}
			if got.Status != status || got.Reason != reason || writes != n {
				t.Errorf("%s: condition is %q %q after %d writes, want %q %q after %d", what, got.Status, got.Reason, writes, status, reason, n)
			}
		}
		pod := testPod("web")
		pod.Generation = 1
		a.createPod(ctx, pod)
		wait(time.Minute)
		see("stored, and not reported yet", "", "", 0)
		a.updatePod(ctx, "web", observed)

		l.cut()
		a.updatePod(ctx, "web", func(p *corev1.Pod) { p.Generation = 2; p.Spec.Containers[0].Image = "busybox:2" })
		wait(time.Minute)
		see("the edge may be at another replica", "", "", 0)
		edgeNode.Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Message: "no session since 2000-01-01T00:00:00Z"}
		if _, err := a.CoreV1().Nodes().UpdateStatus(ctx, edgeNode, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(20 * time.Second)
		see("offline", corev1.ConditionFalse, "EdgeOffline", 1)
		a.updatePod(ctx, "web", func(p *corev1.Pod) { p.Generation = 3; p.Spec.Containers[0].Image = "busybox:3" })
		wait(time.Hour)
		see("changed again", corev1.ConditionFalse, "EdgeOffline", 1)

		l.mend()
		wait(20 * time.Second)
		see("it is back", corev1.ConditionTrue, "EdgeStored", 2)
		a.updatePod(ctx, "web", observed)
		wait(time.Minute)
		see("it has reported", corev1.ConditionTrue, "EdgeStored", 2)

		e.halt()
		cancel()
		l.cut()
		wg.Wait()
		l.wg.Wait()
	})
}
