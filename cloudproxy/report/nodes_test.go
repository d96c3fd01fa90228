package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/skerry-io/skerry/tunnel/wire"
)

type fakeSessions struct {
	changed chan struct{}

	mu  sync.Mutex // guards the following fields
	all map[string]Session
}

func newSessions() *fakeSessions {
	return &fakeSessions{changed: make(chan struct{}, 1), all: make(map[string]Session)}
}

func (s *fakeSessions) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Session
	for _, one := range s.all {
		all = append(all, one)
	}
	return all
}

func (s *fakeSessions) Changed() <-chan struct{} { return s.changed }

func (s *fakeSessions) ring() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *fakeSessions) connect(node string) {
	s.mu.Lock()
	s.all[node] = Session{Node: node, Since: time.Now(), Hello: wire.Hello{
		OS: "linux", Arch: "arm64",
		Labels: []string{"site=oslo", "node-role.kubernetes.io/control-plane=", "bad", "topology.kubernetes.io/zone=z1"},
		Taints: []wire.Taint{
			{Key: "site", Value: "oslo", Effect: "NoSchedule"},
			{Key: "site", Value: "bergen", Effect: "NoSchedule"},
			{Key: "node.kubernetes.io/unschedulable", Effect: "NoSchedule"},
			{Key: "node-role.kubernetes.io/edge", Effect: "NoExecute"},
		},
	}}
	s.mu.Unlock()
	s.ring()
}

func (s *fakeSessions) lose(node string) {
	s.mu.Lock()
	delete(s.all, node)
	s.mu.Unlock()
	s.ring()
}

// wait lets virtual time pass, and then all others come to rest: a reactor may be
// added to a fake client only while nobody calls it.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

type nodesTest struct {
	testing.TB
	client   *fake.Clientset
	sessions *fakeSessions
	nodes    *Nodes // the one that runs
	log      *bytes.Buffer
	change   func(*NodesConfig) // for the next start
	start    func()
	stop     func()
}

func runNodes(t *testing.T, f func(ctx context.Context, n *nodesTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &nodesTest{TB: t, client: fake.NewClientset(), sessions: newSessions(), log: &bytes.Buffer{}, change: func(*NodesConfig) {}}
		n.start = func() {
			cfg := NodesConfig{
				Client: n.client, Sessions: n.sessions, KubeletPort: 10250, MetricsPath: func(node string) string { return "/metrics/of/" + node }, Log: slog.New(slog.NewTextHandler(n.log, nil)),
				Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeHostName, Address: "192.0.2.1"}},
			}
			n.change(&cfg)
			nodes, err := NewNodes(cfg)
			if err != nil {
				t.Fatal(err)
			}
			n.nodes = nodes
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				if err := nodes.Run(ctx); err != nil {
					t.Errorf("Run: %v", err)
				}
			}()
			synctest.Wait()
			n.stop = func() { cancel(); <-done }
		}
		n.start()
		f(t.Context(), n)
		n.stop()
	})
}

func (n *nodesTest) node(ctx context.Context, name string) *corev1.Node {
	n.Helper()
	node, err := n.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		n.Fatal(err)
	}
	return node
}

func (n *nodesTest) wantReady(ctx context.Context, status corev1.ConditionStatus, reason string) *corev1.NodeCondition {
	n.Helper()
	c := findNodeCondition(&n.node(ctx, "e1").Status, corev1.NodeReady)
	if c == nil || c.Status != status || c.Reason != reason {
		n.Errorf("Ready = %+v, want %s %s", c, status, reason)
	}
	return c
}

func (n *nodesTest) renewed(ctx context.Context) time.Time {
	n.Helper()
	l, err := n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, "e1", metav1.GetOptions{})
	if err != nil {
		n.Fatal(err)
	}
	return l.Spec.RenewTime.Time
}

func TestNodeFollowsSession(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.sessions.connect("e1")
		wait(time.Second)
		node := n.node(ctx, "e1")
		for k, v := range map[string]string{
			"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64", "kubernetes.io/hostname": "e1",
			"node-role.kubernetes.io/edge": "", "skerry.io/edge": "true", "site": "oslo", "topology.kubernetes.io/zone": "z1",
		} {
			if got, ok := node.Labels[k]; !ok || got != v {
				t.Errorf("label %s = %q, want %q", k, got, v)
			}
		}
		if _, ok := node.Labels["node-role.kubernetes.io/control-plane"]; ok {
			t.Error("an edge gave itself a role")
		}
		wantTaints := []corev1.Taint{{Key: "site", Value: "oslo", Effect: "NoSchedule"}, {Key: "node-role.kubernetes.io/edge", Effect: "NoExecute"}}
		if d := cmp.Diff(wantTaints, node.Spec.Taints); d != "" {
			t.Errorf("taints (-want +got):\n%s", d)
		}
		if node.Status.DaemonEndpoints.KubeletEndpoint.Port != 10250 || len(node.Status.Addresses) != 2 || node.Status.Addresses[0].Address != "192.0.2.1" {
			t.Errorf("status: %+v", node.Status)
		}
		n.wantReady(ctx, corev1.ConditionTrue, "EdgeConnected")

		wait(5 * time.Minute)
		if age := time.Since(n.renewed(ctx)); age > 12*time.Second {
			t.Errorf("lease was renewed %v ago", age)
		}

		// A short loss is not noticed.
		n.sessions.lose("e1")
		wait(9 * time.Second)
		n.wantReady(ctx, corev1.ConditionTrue, "EdgeConnected")
		n.sessions.connect("e1")
		wait(time.Minute)
		n.wantReady(ctx, corev1.ConditionTrue, "EdgeConnected")

		n.sessions.lose("e1")
		lost := time.Now()
		wait(9 * time.Second)
		n.wantReady(ctx, corev1.ConditionTrue, "EdgeConnected")
		// As long as another replica may take to renew, whenever this one did last.
		wait(leaseInterval/5 + leaseLatency + 100*time.Millisecond)
		c := n.wantReady(ctx, corev1.ConditionUnknown, "EdgeOffline")
		if want := "no session since " + lost.UTC().Format(time.RFC3339); c.Message != want {
			t.Errorf("message %q, want %q", c.Message, want)
		}
		renewed := n.renewed(ctx)
		wait(time.Hour)
		if !n.renewed(ctx).Equal(renewed) {
			t.Error("lease of an absent edge was renewed")
		}
		n.sessions.connect("e1")
		wait(100 * time.Millisecond)
		n.wantReady(ctx, corev1.ConditionTrue, "EdgeConnected")
	})
}

func TestDeletedNodeIsMadeAgain(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.sessions.connect("e1")
		wait(time.Second)
		if err := n.client.CoreV1().Nodes().Delete(ctx, "e1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		n.wantReady(ctx, corev1.ConditionTrue, "EdgeConnected")
	})
}

func TestForeignNodeIsLeftAlone(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		if _, err := n.client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "e1"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		n.sessions.connect("e1")
		wait(time.Hour)
		node := n.node(ctx, "e1")
		if len(node.Labels) != 0 || len(node.Status.Conditions) != 0 {
			t.Errorf("node of somebody else was changed: %+v", node)
		}
		events, err := n.client.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil || len(events.Items) != 1 || events.Items[0].Reason != "NodeNotAdopted" {
			t.Errorf("events: %+v, %v", events, err)
		}
		if _, err := n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, "e1", metav1.GetOptions{}); err == nil {
			t.Error("lease was made for a node of somebody else")
		}
	})
}

// TestConflictIsNoNews: the node controller taints a new Node at the moment at
// which its status is written.
func TestConflictIsNoNews(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		var conflicts atomic.Int64
		n.client.PrependReactor("patch", "nodes", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if a.GetSubresource() == "status" && conflicts.Add(1) < 3 {
				return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "nodes"}, "e1", errors.New("changed"))
			}
			return false, nil, nil
		})
		n.sessions.connect("e1")
		wait(time.Second)
		n.wantReady(ctx, corev1.ConditionTrue, reasonConnected)
		if strings.Contains(n.log.String(), "brought up to date") {
			t.Errorf("log:\n%s", n.log)
		}
	})
}

func TestBadLabelsAreToldOnce(t *testing.T) {
	runNodes(t, func(_ context.Context, n *nodesTest) {
		n.sessions.connect("e1")
		wait(time.Hour)
		if got := strings.Count(n.log.String(), "not allowed\" edge=e1 count=4 first=\"node-role"); got != 1 {
			t.Errorf("%d lines about labels and taints in an hour:\n%s", got, n.log)
		}
	})
}

// TestTaintsAreOfTheBeginning: what somebody takes away stays away, as long as the Node
// is there; one that is made again has them.
func TestTaintsAreOfTheBeginning(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.sessions.connect("e1")
		wait(time.Second)
		node := n.node(ctx, "e1")
		if len(node.Spec.Taints) != 2 {
			t.Fatalf("taints: %v", node.Spec.Taints)
		}
		node.Spec.Taints = nil
		if _, err := n.client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(time.Hour)
		n.sessions.lose("e1")
		wait(time.Minute)
		n.sessions.connect("e1")
		wait(time.Minute)
		if got := n.node(ctx, "e1").Spec.Taints; len(got) != 0 {
			t.Errorf("taints that were taken away are back: %v", got)
		}
		if err := n.client.CoreV1().Nodes().Delete(ctx, "e1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		if got := n.node(ctx, "e1").Spec.Taints; len(got) != 2 {
			t.Errorf("taints of a Node that was made again: %v", got)
		}
	})
}

// TestTaints: what the API would refuse, or a controller takes for its own, is left out.
func TestTaints(t *testing.T) {
	for _, tt := range []struct {
		taint wire.Taint
		good  bool
	}{
		{wire.Taint{Key: "a", Value: "b", Effect: "NoSchedule"}, true},
		{wire.Taint{Key: "a", Effect: "PreferNoSchedule"}, true},
		{wire.Taint{Key: "example.com/a", Value: "1", Effect: "NoExecute"}, true},
		{wire.Taint{Key: "node-role.kubernetes.io/edge", Effect: "NoSchedule"}, true},
		{wire.Taint{Key: "topology.kubernetes.io/zone", Effect: "NoSchedule"}, false},
		{wire.Taint{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}, false},
		{wire.Taint{Key: "node.kubernetes.io/unreachable", Effect: "NoExecute"}, false},
		{wire.Taint{Key: "node.cloudprovider.kubernetes.io/uninitialized", Effect: "NoSchedule"}, false},
		{wire.Taint{Key: "skerry.io/a", Effect: "NoSchedule"}, false},
		{wire.Taint{Effect: "NoSchedule"}, false},
		{wire.Taint{Key: "a b", Effect: "NoSchedule"}, false},
		{wire.Taint{Key: "a", Value: "b=c", Effect: "NoSchedule"}, false},
		{wire.Taint{Key: "a"}, false},
		{wire.Taint{Key: "a", Effect: "Never"}, false},
	} {
		all, bad := taints(&Session{Hello: wire.Hello{Taints: []wire.Taint{tt.taint}}})
		if good := len(all) == 1 && len(bad) == 0; good != tt.good || len(all)+len(bad) != 1 {
			t.Errorf("%+v: taken %v, refused %q", tt.taint, all, bad)
		}
	}
	var many []wire.Taint
	for i := range 1000 {
		many = append(many, wire.Taint{Key: fmt.Sprintf("k%d", i), Effect: "NoSchedule"})
	}
	if all, bad := taints(&Session{Hello: wire.Hello{Taints: many}}); len(all) != maxTaints || len(bad) != len(many)-maxTaints {
		t.Errorf("of %d taints %d are taken and %d refused", len(many), len(all), len(bad))
	}
}

// TestNodeNameLongerThanALabel still makes a Node.
func TestNodeNameLongerThanALabel(t *testing.T) {
	name := strings.Repeat("a", 64)
	all, _ := labels(&Session{Node: name, Hello: wire.Hello{OS: "linux", Arch: "not a label"}})
	for key, value := range all {
		if len(validation.IsValidLabelValue(value)) > 0 {
			t.Errorf("%s=%s is refused by the API", key, value)
		}
	}
	if all[LabelEdge] != "true" || all[corev1.LabelOSStable] != "linux" {
		t.Errorf("labels are missing: %v", all)
	}
}

// TestCheck: an edge that took the name of a worker gets nothing of it.
func TestCheck(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		worker := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker", Labels: map[string]string{LabelEdge: "true"}}}
		if _, err := n.client.CoreV1().Nodes().Create(ctx, worker, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := n.nodes.Check(ctx, "e1"); err != nil {
			t.Errorf("node that is yet to be made: %v", err)
		}
		n.sessions.connect("e1")
		wait(time.Second)
		if err := n.nodes.Check(ctx, "e1"); err != nil {
			t.Errorf("edge's own node: %v", err)
		}
		if err := n.nodes.Check(ctx, "worker"); !errors.Is(err, errForeign) {
			t.Errorf("node of somebody else: %v", err)
		}
	})
}

func TestRestartedProxyMarksAbsentEdges(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.sessions.connect("e1")
		wait(time.Minute)
		n.stop()
		n.sessions.lose("e1")
		last := n.renewed(ctx)
		n.start()
		wait(24 * time.Second)
		n.wantReady(ctx, corev1.ConditionTrue, "EdgeConnected")
		wait(2 * time.Second)
		c := n.wantReady(ctx, corev1.ConditionUnknown, "EdgeOffline")
		if !strings.HasSuffix(c.Message, last.UTC().Format(time.RFC3339)) {
			t.Errorf("message %q, want the last renewal %v", c.Message, last)
		}
	})
}

func TestEdgeOfAnotherReplicaIsNotMarked(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.sessions.connect("e1")
		wait(time.Minute)
		n.sessions.lose("e1")
		leases := n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
		for range 10 {
			wait(8 * time.Second) // a replica renews as soon as an edge connects
			l, err := leases.Get(ctx, "e1", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			now := metav1.NowMicro()
			l.Spec.RenewTime = &now
			if _, err := leases.Update(ctx, l, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			n.wantReady(ctx, corev1.ConditionTrue, "EdgeConnected")
		}
		// The other replica dies.
		wait(2 * time.Minute)
		n.wantReady(ctx, corev1.ConditionUnknown, "EdgeOffline")
	})
}

// TestEdgeThatLeftUnheard: another replica got the edge while this one had not noticed
// yet, and renewed the lease just before this one did for the last time.
func TestEdgeThatLeftUnheard(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.sessions.connect("e1")
		wait(time.Minute)
		last := n.renewed(ctx)
		for n.renewed(ctx).Equal(last) {
			wait(time.Millisecond)
		}
		n.sessions.lose("e1")
		leases := n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
		for range 10 {
			wait(leaseInterval + leaseInterval/10)
			n.wantReady(ctx, corev1.ConditionTrue, reasonConnected)
			l, err := leases.Get(ctx, "e1", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			l.Spec.RenewTime = new(metav1.NowMicro())
			if _, err := leases.Update(ctx, l, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A proxy that stops keeps leases, and writes nothing that the next one would
// write differently.
func TestDrainingProxyLeavesNodes(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.sessions.connect("e1")
		wait(time.Minute)
		n.nodes.Drain()
		node := n.node(ctx, "e1")
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.2"}}
		if _, err := n.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(30 * time.Second)
		if got := time.Since(n.renewed(ctx)); got > 11*time.Second {
			t.Errorf("the lease of an edge that is here is %v old", got)
		}
		n.sessions.lose("e1")
		wait(time.Minute)
		n.wantReady(ctx, corev1.ConditionTrue, "EdgeConnected")
		if got := n.node(ctx, "e1").Status.Addresses; len(got) != 1 || got[0].Address != "192.0.2.2" {
			t.Errorf("addresses were written over: %v", got)
		}
		if got := time.Since(n.renewed(ctx)); got < time.Minute {
			t.Errorf("the lease of an edge that is gone is %v old", got)
		}
	})
}

func TestPodsAreReadyAgainAfterReturn(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		n.sessions.connect("e1")
		wait(time.Second)
		pods := n.client.CoreV1().Pods("default")
		for name, containers := range map[string]corev1.ConditionStatus{"well": corev1.ConditionTrue, "ill": corev1.ConditionFalse} {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: "e1"},
				Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
					{Type: corev1.ContainersReady, Status: containers},
					{Type: corev1.PodReady, Status: corev1.ConditionFalse}, // as the node controller leaves it
				}},
			}
			if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		n.sessions.lose("e1")
		wait(time.Minute)
		n.sessions.connect("e1")
		wait(time.Minute)
		for name, want := range map[string]corev1.ConditionStatus{"well": corev1.ConditionTrue, "ill": corev1.ConditionFalse} {
			pod, err := pods.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := findPodCondition(pod.Status.Conditions, corev1.PodReady).Status; got != want {
				t.Errorf("pod %s: Ready = %s, want %s", name, got, want)
			}
		}
	})
}

func TestOfflineSince(t *testing.T) {
	marked, changed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC)
	for _, tt := range []struct {
		name    string
		ready   []corev1.NodeCondition
		want    time.Time
		offline bool
	}{
		{"never ready", nil, time.Time{}, false},
		{"ready", []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}, time.Time{}, false},
		{"marked", []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Message: "no session since 2026-01-02T03:04:05Z"}}, marked, true},
		{"node controller", []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Message: "Kubelet stopped posting node status."}}, changed, true},
	} {
		for i := range tt.ready {
			tt.ready[i].LastTransitionTime = metav1.NewTime(changed)
		}
		got, offline := OfflineSince(&corev1.Node{Status: corev1.NodeStatus{Conditions: tt.ready}})
		if offline != tt.offline || !got.Equal(tt.want) {
			t.Errorf("%s: got %v, %v; want %v, %v", tt.name, got, offline, tt.want, tt.offline)
		}
	}
}

// TestMetricsAnnotation has metrics-server find each edge at the one address, also
// on a Node of an older proxy, whose other annotations stay.
func TestMetricsAnnotation(t *testing.T) {
	runNodes(t, func(ctx context.Context, n *nodesTest) {
		if _, err := n.client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: "e1", Labels: map[string]string{LabelEdge: "true"}, Annotations: map[string]string{AnnotationOwner: owner, "other": "1"},
		}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		n.sessions.connect("e1")
		n.sessions.connect("e2")
		wait(time.Minute)
		for node, other := range map[string]string{"e1": "1", "e2": ""} {
			got := n.node(ctx, node).Annotations
			if got[annotationMetrics] != "/metrics/of/"+node || got["other"] != other || got[AnnotationOwner] != owner {
				t.Errorf("%s: %v", node, got)
			}
		}
	})
}
