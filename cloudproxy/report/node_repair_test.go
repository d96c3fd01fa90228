package report

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
)

// runningPods makes pods that run at e1, as the node controller leaves them when it
// has lost the edge.
func (n *nodesTest) runningPods(ctx context.Context, names ...string) {
	n.Helper()
	for _, name := range names {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: "e1"},
			Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
				{Type: corev1.ContainersReady, Status: corev1.ConditionTrue},
				{Type: corev1.PodReady, Status: corev1.ConditionFalse},
			}},
		}
		if _, err := n.client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			n.Fatal(err)
		}
	}
}

func (n *nodesTest) wantPod(ctx context.Context, name string, ready corev1.ConditionStatus) {
	n.Helper()
	pod, err := n.client.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		n.Fatal(err)
	}
	if got := findPodCondition(pod.Status.Conditions, corev1.PodReady).Status; got != ready {
		n.Errorf("pod %s: Ready = %s, want %s", name, got, ready)
	}
}

// report writes what the edge says of its Node. It may be called within a request.
func (n *nodesTest) report() {
	n.Helper()
	resource := schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	o, err := n.client.Tracker().Get(resource, "", "e1")
	node, ok := o.(*corev1.Node)
	if err != nil || !ok {
		n.Fatalf("node is %T: %v", o, err)
	}
	node = node.DeepCopy()
	setNodeCondition(&node.Status, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "EdgeReady"})
	if err := n.client.Tracker().Update(resource, node, ""); err != nil {
		n.Fatal(err)
	}
}

// TestPodsAreReadyAgain has others write to the Node and to pods of an edge at the
// moment at which it comes back.
func TestPodsAreReadyAgain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		nodes int64            // conflicts of writes to the Node
		pods  int64            // conflicts of writes to pods
		back  func(*nodesTest) // the edge comes back, and says that it is ready
	}{
		{"quiet", 0, 0, func(n *nodesTest) { n.sessions.connect("e1") }},
		{"pod changes", 0, 1, func(n *nodesTest) { n.sessions.connect("e1") }},
		{"pod changes often", 0, 20, func(n *nodesTest) { n.sessions.connect("e1") }},
		{"node changes", 1, 1, func(n *nodesTest) { n.sessions.connect("e1") }},
		{"reported at once", 0, 0, func(n *nodesTest) { n.report(); n.sessions.connect("e1") }},
		{"reported before", 0, 1, func(n *nodesTest) { n.report(); wait(time.Second); n.sessions.connect("e1") }},
		{"reported before the proxy has seen the Node", 0, 1, func(n *nodesTest) {
			n.stop()
			n.sessions.connect("e1")
			n.report()
			n.start()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			runNodes(t, func(ctx context.Context, n *nodesTest) {
				n.sessions.connect("e1")
				wait(time.Second)
				n.runningPods(ctx, "p1", "p2")
				n.sessions.lose("e1")
				wait(time.Minute)
				n.wantReady(ctx, corev1.ConditionUnknown, reasonOffline)
				for resource, count := range map[string]int64{"nodes": tt.nodes, "pods": tt.pods} {
					var conflicts atomic.Int64
					n.client.PrependReactor("patch", resource, func(a clienttesting.Action) (bool, runtime.Object, error) {
						if a.GetSubresource() != "status" || conflicts.Add(1) > count {
							return false, nil, nil
						}
						if resource == "nodes" {
							n.report() // it is the edge that was faster
						}
						return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: resource}, "x", errors.New("changed"))
					})
				}
				tt.back(n)
				wait(time.Minute)
				n.wantPod(ctx, "p1", corev1.ConditionTrue)
				n.wantPod(ctx, "p2", corev1.ConditionTrue)
				lists := 0
				n.client.ClearActions()
				wait(10 * time.Minute)
				for _, a := range n.client.Actions() {
					if a.Matches("list", "pods") {
						lists++
					}
				}
				if lists != 0 {
					t.Errorf("pods were listed %d times in ten minutes in which nothing happened", lists)
				}
			})
		})
	}
}

// TestPodThatCantBeMadeReady holds up no other.
func TestPodThatCantBeMadeReady(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.sessions.connect("e1")
		wait(time.Second)
		n.runningPods(ctx, "p1", "p2")
		n.client.PrependReactor("patch", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if p, ok := a.(clienttesting.PatchAction); ok && p.GetName() == "p1" {
				return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p1", errors.New("a webhook says so"))
			}
			return false, nil, nil
		})
		n.sessions.lose("e1")
		wait(time.Minute)
		n.sessions.connect("e1")
		wait(10 * time.Second)
		n.wantPod(ctx, "p1", corev1.ConditionFalse)
		n.wantPod(ctx, "p2", corev1.ConditionTrue)
		n.wantReady(ctx, corev1.ConditionTrue, reasonConnected)
	})
}
