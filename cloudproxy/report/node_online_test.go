package report

import (
	"context"
	"errors"
	"slices"
	"strings"
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

// TestConditionOfAllNodes: trouble is shown, and its end where it was shown.
func TestConditionOfAllNodes(t *testing.T) {
	var now atomic.Pointer[corev1.NodeCondition]
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.stop()
		n.change = func(cfg *NodesConfig) { cfg.Condition = now.Load }
		n.start()
		shown := func(node string) corev1.ConditionStatus {
			if c := findNodeCondition(&n.node(ctx, node).Status, "X"); c != nil {
				return c.Status
			}
			return ""
		}
		n.sessions.connect("e1")
		now.Store(&corev1.NodeCondition{Type: "X", Status: corev1.ConditionTrue, Reason: "Fine"})
		wait(time.Minute)
		if got := shown("e1"); got != "" {
			t.Errorf("what is fine from the start is %q", got)
		}
		now.Store(&corev1.NodeCondition{Type: "X", Status: corev1.ConditionFalse, Reason: "Trouble"})
		wait(time.Minute)
		if got := shown("e1"); got != corev1.ConditionFalse {
			t.Errorf("trouble is %q", got)
		}
		writes := len(n.client.Actions())
		now.Store(&corev1.NodeCondition{Type: "X", Status: corev1.ConditionTrue, Reason: "Fine"})
		wait(time.Minute)
		if got := shown("e1"); got != corev1.ConditionTrue {
			t.Errorf("after trouble it is %q", got)
		}
		patches := 0
		for _, a := range n.client.Actions()[writes:] {
			if a.GetVerb() == "patch" && a.GetSubresource() == "status" {
				patches++
			}
		}
		if patches != 1 {
			t.Errorf("%d patches for one change", patches)
		}
	})
}

// TestPortOfANode: a node with a port of its own keeps its address.
func TestPortOfANode(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.stop()
		var full atomic.Bool
		n.change = func(cfg *NodesConfig) {
			cfg.Port = func(_ context.Context, node string) (int32, error) {
				if full.Load() {
					return 0, errors.New("none is left")
				}
				return 20000 + int32(node[1]-'0'), nil
			}
		}
		n.start()
		n.sessions.connect("e1")
		n.sessions.connect("e2")
		wait(time.Second)
		for name, want := range map[string]int32{"e1": 20001, "e2": 20002} {
			if got := n.node(ctx, name).Status; got.DaemonEndpoints.KubeletEndpoint.Port != want || len(got.Addresses) != 2 {
				t.Errorf("%s: %+v", name, got)
			}
		}
		full.Store(true)
		n.sessions.connect("e3")
		wait(time.Minute)
		if got := n.node(ctx, "e3").Status.DaemonEndpoints.KubeletEndpoint.Port; got != 0 {
			t.Errorf("without a port of its own e3 has %d, which is another's", got)
		}
	})
}

// TestNoPortIsLeft: an edge whose port nobody can tell stays connected, at the port
// that it had.
func TestNoPortIsLeft(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.stop()
		var full atomic.Bool
		n.change = func(cfg *NodesConfig) {
			cfg.Port = func(context.Context, string) (int32, error) {
				if full.Load() {
					return 0, errors.New("none is left")
				}
				return 20001, nil
			}
		}
		n.start()
		n.sessions.connect("e1")
		wait(time.Second)
		n.sessions.lose("e1")
		wait(time.Minute)
		full.Store(true)
		n.sessions.connect("e1")
		n.sessions.connect("e2")
		wait(5 * time.Minute)
		n.wantReady(ctx, corev1.ConditionTrue, reasonConnected)
		if age := time.Since(n.renewed(ctx)); age > 12*time.Second {
			t.Errorf("the lease of an edge that is connected is %v old", age)
		}
		if got := n.node(ctx, "e1").Status; got.DaemonEndpoints.KubeletEndpoint.Port != 20001 || len(got.Addresses) != 2 {
			t.Errorf("e1 is at %+v, port %d", got.Addresses, got.DaemonEndpoints.KubeletEndpoint.Port)
		}
		// Without a port kube-apiserver would take the one that all kubelets have.
		if got := n.node(ctx, "e2").Status; got.DaemonEndpoints.KubeletEndpoint.Port != 0 || len(got.Addresses) != 0 {
			t.Errorf("e2 is at %+v, port %d", got.Addresses, got.DaemonEndpoints.KubeletEndpoint.Port)
		}
		if ready := findNodeCondition(&n.node(ctx, "e2").Status, corev1.NodeReady); ready == nil || ready.Status != corev1.ConditionTrue {
			t.Errorf("e2 is %+v", ready)
		}
		if got := strings.Count(n.log.String(), "none is left"); got != 2 {
			t.Errorf("%d lines for two edges in five minutes:\n%s", got, n.log)
		}
		full.Store(false)
		wait(time.Minute)
		if got := n.node(ctx, "e2").Status; got.DaemonEndpoints.KubeletEndpoint.Port != 20001 || len(got.Addresses) != 2 {
			t.Errorf("when there is a port e2 is at %+v, port %d", got.Addresses, got.DaemonEndpoints.KubeletEndpoint.Port)
		}
	})
}

// TestLeaseOfAConnectedEdge is renewed whatever else the API refuses.
func TestLeaseOfAConnectedEdge(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.sessions.connect("e1")
		wait(time.Second)
		n.client.PrependReactor("patch", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "e1", errors.New("a webhook says so"))
		})
		node := n.node(ctx, "e1")
		node.Labels, node.Status.Addresses = nil, nil
		if _, err := n.client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(5 * time.Minute)
		if age := time.Since(n.renewed(ctx)); age > 12*time.Second {
			t.Errorf("the lease of an edge that is connected is %v old", age)
		}
	})
}

// TestDeclaredFeatures: sorted and each once, as the API wants them.
func TestDeclaredFeatures(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.stop()
		n.change = func(cfg *NodesConfig) { cfg.Features = []string{"M", "B"} }
		n.start()
		n.sessions.connect("e1")
		wait(time.Second)
		node := n.node(ctx, "e1")
		if got := node.Status.DeclaredFeatures; !slices.Equal(got, []string{"B", "M"}) {
			t.Errorf("features %v", got)
		}
		node.Status.DeclaredFeatures = []string{"A", "M", "Z"}
		if _, err := n.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		if got := n.node(ctx, "e1").Status.DeclaredFeatures; !slices.Equal(got, []string{"A", "B", "M", "Z"}) {
			t.Errorf("features %v", got)
		}
		writes := len(n.client.Actions())
		wait(time.Minute)
		for _, a := range n.client.Actions()[writes:] {
			if a.GetSubresource() == "status" {
				t.Errorf("without a change: %v", a)
			}
		}
	})
}
