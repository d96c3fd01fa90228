package report

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	// annotationAddresses has an edge's own addresses, with commas between them.
	annotationAddresses = "skerry.io/edge-addresses"
	// maxAddresses bounds them.
	maxAddresses = 16
)

// writeNode writes what an edge says of its machine. Addresses and the kubelet's
// port are not the edge's to say: they are the proxy's, by which the API server
// finds the edge.
func (r *Receiver) writeNode(ctx context.Context, node string, place stamp, value []byte) error {
	var report corev1.NodeStatus
	if err := report.Unmarshal(value); err != nil {
		return &badReportError{fmt.Errorf("decode node status: %w", err)}
	}
	// Absent is no reason to give up: Nodes makes it in a moment.
	n, err := r.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: %w", errNodeAbsent, err)
	}
	if err != nil {
		return fmt.Errorf("get node %s: %w", node, err)
	}
	if !Owned(n) {
		return fmt.Errorf("node %s was not made by Skerry: %w", node, errForeign)
	}
	status := n.Status.DeepCopy()
	status.Capacity = withExtended(report.Capacity, status.Capacity)
	status.Allocatable = withExtended(report.Allocatable, status.Capacity)
	status.NodeInfo = report.NodeInfo
	status.Images = report.Images
	for _, c := range report.Conditions {
		setNodeCondition(status, c)
	}
	if err := place.onNode(status); err != nil {
		return fmt.Errorf("node %s: %w", node, err)
	}
	if err := patchNodeStatus(ctx, r.client, n, status, n.ResourceVersion); err != nil {
		return err
	}
	return r.noteAddresses(ctx, n, report.Addresses)
}

// noteAddresses keeps what an edge says of its own addresses, for people: those in
// the Node's status are the proxy's.
func (r *Receiver) noteAddresses(ctx context.Context, n *corev1.Node, addresses []corev1.NodeAddress) error {
	var list []string
	for _, a := range addresses {
		// An edge may say anything.
		if ip, err := netip.ParseAddr(a.Address); err == nil && len(list) < maxAddresses {
			list = append(list, ip.String())
		}
	}
	note := strings.Join(list, ",")
	if old, ok := n.Annotations[annotationAddresses]; old == note && (ok || note == "") {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": n.UID, "annotations": map[string]string{annotationAddresses: note}}})
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	if _, err := r.client.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("annotate node %s: %w", n.Name, err)
	}
	return nil
}

// EdgeAddresses are the addresses of an edge's own machine, as its agent said.
func EdgeAddresses(n *corev1.Node) []string {
	if note := n.Annotations[annotationAddresses]; note != "" {
		return strings.Split(note, ",")
	}
	return nil
}

// withExtended adds to what the edge has the resources that people say it has,
// such as example.com/dongle. As kubelets do, it takes their amounts over.
func withExtended(own, said corev1.ResourceList) corev1.ResourceList {
	all := own.DeepCopy()
	for name, q := range said {
		if _, ok := all[name]; ok || !strings.Contains(string(name), "/") || strings.Contains(string(name), "kubernetes.io/") {
			continue
		}
		if all == nil {
			all = make(corev1.ResourceList)
		}
		all[name] = q
	}
	return all
}

func setNodeCondition(s *corev1.NodeStatus, c corev1.NodeCondition) {
	if old := findNodeCondition(s, c.Type); old != nil {
		*old = c
		return
	}
	s.Conditions = append(s.Conditions, c)
}

func findNodeCondition(s *corev1.NodeStatus, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

// patchNodeStatus brings the status of n to status, if that is a change. With a
// resourceVersion the API server refuses it when somebody else was faster.
func patchNodeStatus(ctx context.Context, client kubernetes.Interface, n *corev1.Node, status *corev1.NodeStatus, resourceVersion string) error {
	if equality.Semantic.DeepEqual(&n.Status, status) {
		return nil
	}
	patch, err := statusPatch(corev1.Node{Status: withoutAddresses(n.Status)},
		corev1.Node{ObjectMeta: metav1.ObjectMeta{UID: n.UID, ResourceVersion: resourceVersion}, Status: withoutAddresses(*status)})
	if err == nil {
		patch, err = withAddresses(patch, n.Status.Addresses, status.Addresses)
	}
	if err != nil {
		return err
	}
	if _, err := client.CoreV1().Nodes().Patch(ctx, n.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("patch status of node %s: %w", n.Name, err)
	}
	return nil
}
