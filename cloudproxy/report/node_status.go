package report

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// writeNode writes what an edge says of its machine. Addresses and the kubelet's
// port are not the edge's to say: they are the proxy's, by which the API server
// finds the edge.
func (r *Receiver) writeNode(ctx context.Context, node string, value []byte) error {
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
	status.Capacity = report.Capacity
	status.Allocatable = report.Allocatable
	status.NodeInfo = report.NodeInfo
	status.Images = report.Images
	for _, c := range report.Conditions {
		setNodeCondition(status, c)
	}
	return patchNodeStatus(ctx, r.client, n, status, "")
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
