package report

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// offlineMessage begins the message of the condition of an edge that is offline;
// the time follows.
const offlineMessage = "no session since "

// OfflineSince tells when an edge was lost by what its Node says. It is false for
// one that is connected as far as the Node tells.
func OfflineSince(node *corev1.Node) (time.Time, bool) {
	ready := findNodeCondition(&node.Status, corev1.NodeReady)
	if ready == nil || ready.Status != corev1.ConditionUnknown {
		return time.Time{}, false
	}
	if text, ok := strings.CutPrefix(ready.Message, offlineMessage); ok {
		if since, err := time.Parse(time.RFC3339, text); err == nil {
			return since, true
		}
	}
	// The node controller's word, or a new edge's that has never been heard.
	return ready.LastTransitionTime.Time, true
}

// offline marks the Node of an edge that has no session, once the grace is over
// and no other replica has renewed its lease.
func (n *Nodes) offline(ctx context.Context, name string, st nodeState) (time.Duration, error) {
	node, err := n.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && !Owned(node) {
		n.forget(name)
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("get node: %w", err)
	}
	if wait := time.Until(st.silent()); wait > 0 {
		return wait, nil
	}
	renewed, err := n.renewedAt(ctx, name)
	if err != nil {
		return 0, err
	}
	// That the renewal is another's shows without comparing clocks, and before the
	// next one is due: it is not the one that was seen here last.
	if renewed.After(st.lost) || !st.seen.IsZero() && !renewed.Equal(st.seen) {
		// Another replica has the session. It marks the Node when it loses it; this
		// one looks again in case that replica is lost itself.
		n.change(name, func(st *nodeState) { st.lost, st.seen, st.grace = renewed, renewed, leaseSeconds*time.Second })
		return leaseSeconds * time.Second, nil
	}
	since := st.lost
	if st.grace == startGrace && !renewed.IsZero() {
		since = renewed
	}
	status := node.Status.DeepCopy()
	ready := findNodeCondition(status, corev1.NodeReady)
	if ready != nil && ready.Reason == reasonOffline {
		return 0, nil
	}
	now := metav1.Now()
	// Unknown and not False: the edge may be running on its own.
	setNodeCondition(status, corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: reasonOffline,
		Message:           offlineMessage + since.UTC().Format(time.RFC3339),
		LastHeartbeatTime: now, LastTransitionTime: now,
	})
	if err := patchNodeStatus(ctx, n.client, node, status, node.ResourceVersion); err != nil {
		return 0, err
	}
	n.log.Info("edge is offline", "edge", name, "since", since)
	return 0, nil
}

// silent is when an edge without a session here has had its grace. By then another
// replica that got it unheard, and may have renewed its lease just before this one did
// for the last time, has renewed it again.
func (st *nodeState) silent() time.Time {
	const longest = leaseInterval + leaseInterval/10 + leaseLatency
	last := st.lost
	if !st.seen.IsZero() && st.seen.Before(last) {
		last = st.seen
	}
	return later(st.lost.Add(st.grace), last.Add(longest))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// forget drops what is known of an edge that has neither Node nor session.
func (n *Nodes) forget(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if st := n.states[name]; st != nil && st.session == nil {
		delete(n.states, name)
	}
}

func (n *Nodes) renewedAt(ctx context.Context, node string) (time.Time, error) {
	lease, err := n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("get lease: %w", err)
	}
	if lease.Spec.RenewTime == nil {
		return time.Time{}, nil
	}
	return lease.Spec.RenewTime.Time, nil
}

// renewInTime renews the lease if that was not done just now.
func (n *Nodes) renewInTime(ctx context.Context, node *corev1.Node, st nodeState) error {
	if time.Since(st.renewed) <= leaseInterval/2 {
		return nil
	}
	now := metav1.NewMicroTime(time.Now().Truncate(time.Microsecond)) // as the API gives it back
	if err := n.renew(ctx, node, now); err != nil {
		return err
	}
	n.change(node.Name, func(st *nodeState) { st.renewed, st.seen = time.Now(), now.Time })
	return nil
}

// renew renews the edge's lease in one request, or makes it.
func (n *Nodes) renew(ctx context.Context, node *corev1.Node, now metav1.MicroTime) error {
	leases := n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"renewTime": now}})
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	_, err = leases.Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err == nil {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("renew lease: %w", err)
	}
	seconds := int32(leaseSeconds)
	_, err = leases.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: corev1.NamespaceNodeLease, Name: node.Name,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &node.Name, LeaseDurationSeconds: &seconds, RenewTime: &now},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create lease: %w", err)
	}
	return nil
}
