package report

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func resources(pairs ...string) corev1.ResourceList {
	list := make(corev1.ResourceList)
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

// TestNodeReport: what is the edge's to say replaces what was there, what others
// said stays.
func TestNodeReport(t *testing.T) {
	client := fake.NewClientset(
		&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "e1", UID: "u", Annotations: map[string]string{AnnotationOwner: owner}},
			Status: corev1.NodeStatus{
				Capacity:    resources("cpu", "2", "hugepages-1Gi", "1Gi", "example.com/dongle", "3", "attachable-volumes-x.kubernetes.io/y", "1"),
				Allocatable: resources("cpu", "2"),
				Addresses:   []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
				Images:      []corev1.ContainerImage{{Names: []string{"old"}, SizeBytes: 1}},
				Conditions: []corev1.NodeCondition{
					{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: reasonConnected},
					{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: "CNI"},
				},
			},
		},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker"}},
	)
	r, err := New(Config{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	report := corev1.NodeStatus{
		Capacity:    resources("cpu", "4", "memory", "1Gi"),
		Allocatable: resources("cpu", "4", "memory", "900Mi"),
		Addresses:   []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}, {Address: "2001:db8::1"}, {Address: "not,an address"}},
		Images:      []corev1.ContainerImage{{Names: []string{"new"}, SizeBytes: 2}},
		Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady"},
			{Type: "StoreFull", Status: corev1.ConditionTrue},
		},
	}
	value, err := report.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.writeNode(t.Context(), "e1", stamp{}, value); err != nil {
		t.Fatal(err)
	}
	node, err := client.CoreV1().Nodes().Get(t.Context(), "e1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same := cmp.Comparer(func(a, b resource.Quantity) bool { return a.Cmp(b) == 0 })
	if diff := cmp.Diff(resources("cpu", "4", "memory", "1Gi", "example.com/dongle", "3"), node.Status.Capacity, same); diff != "" {
		t.Errorf("capacity (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(resources("cpu", "4", "memory", "900Mi", "example.com/dongle", "3"), node.Status.Allocatable, same); diff != "" {
		t.Errorf("allocatable (-want +got):\n%s", diff)
	}
	got := make(map[corev1.NodeConditionType]string)
	for _, c := range node.Status.Conditions {
		got[c.Type] = string(c.Status) + " " + c.Reason
	}
	want := map[corev1.NodeConditionType]string{
		corev1.NodeReady: "False KubeletNotReady", corev1.NodeNetworkUnavailable: "False CNI", "StoreFull": "True ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if a := node.Status.Addresses; len(a) != 1 || a[0].Address != "192.0.2.1" {
		t.Errorf("addresses %v", a)
	}
	if diff := cmp.Diff([]string{"10.0.0.1", "2001:db8::1"}, EdgeAddresses(node)); diff != "" {
		t.Errorf("the edge's own addresses (-want +got):\n%s", diff)
	}
	if i := node.Status.Images; len(i) != 1 || i[0].Names[0] != "new" {
		t.Errorf("images %v", i)
	}
	if err := r.writeNode(t.Context(), "worker", stamp{}, value); !errors.Is(err, errForeign) {
		t.Errorf("report on a Node that is not an edge's: %v", err)
	}
}
