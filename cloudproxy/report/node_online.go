package report

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// LabelEdge is "true" on the Nodes of edges.
	LabelEdge = "skerry.io/edge"
	// AnnotationOwner says that this package made the Node.
	AnnotationOwner = "skerry.io/owner"
	owner           = "cloudproxy"
	// annotationMetrics is metrics-server's: where at the node's address its usage is.
	annotationMetrics = "metrics.k8s.io/resource-metrics-path"

	reasonConnected = "EdgeConnected"
	reasonOffline   = "EdgeOffline"
)

// Owned says that Skerry made a Node. Only then is it an edge's: a label is not
// enough, since kubelets and people set labels for many reasons.
func Owned(n *corev1.Node) bool { return n.Annotations[AnnotationOwner] == owner }

// Check fails when a Node of this name is there that is not an edge's. The edge
// may have taken the name before the Node came; the pods, Secrets and tokens that
// are bound to that name are not for it.
func (n *Nodes) Check(ctx context.Context, name string) error {
	if o, ok, err := n.informer.GetIndexer().GetByKey(name); err == nil && ok {
		if node, ok := o.(*corev1.Node); ok && Owned(node) {
			return nil
		}
	}
	node, err := n.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil // it is about to be made
	case err != nil:
		return fmt.Errorf("get node %s: %w", name, err)
	case !Owned(node):
		return fmt.Errorf("node %s was not made by Skerry: %w", name, errForeign)
	}
	return nil
}

// online makes the Node of a connected edge what it should be.
func (n *Nodes) online(ctx context.Context, name string, st nodeState) (time.Duration, error) {
	node, err := n.ensure(ctx, st.session)
	if err != nil {
		return 0, err
	}
	if !Owned(node) {
		n.refuse(ctx, node, st)
		return jitter(refusedRetry), nil
	}
	// First the lease: the edge is connected, whatever else can't be written.
	if err := n.renewInTime(ctx, node, st); err != nil {
		return 0, err
	}
	if err := n.ensureLabels(ctx, node, st.session); err != nil {
		return 0, err
	}
	if err := n.ensureStatus(ctx, node, n.port(ctx, node, st)); err != nil {
		return 0, err
	}
	if lacksStatus(node) {
		n.cfg.Ask(name)
	}
	if st.repairs > 0 {
		if err := n.repairPods(ctx, name); err != nil {
			return 0, err
		}
		n.change(name, func(st *nodeState) { st.repairs = max(st.repairs-1, 0) })
	}
	return jitter(leaseInterval), nil
}

// ensure gives the Node of an edge, made if it was absent.
func (n *Nodes) ensure(ctx context.Context, s *Session) (*corev1.Node, error) {
	if o, ok, err := n.informer.GetIndexer().GetByKey(s.Node); err == nil && ok {
		if node, ok := o.(*corev1.Node); ok {
			return node, nil
		}
	}
	all, _ := labels(s)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:        s.Node,
		Labels:      all,
		Annotations: n.annotations(s.Node),
	}}
	// Only a Node that is made gets them, as a kubelet's --register-with-taints: from
	// then on they are the cluster's to change.
	node.Spec.Taints, _ = taints(s)
	made, err := n.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err == nil {
		n.log.Info("node made", "edge", s.Node)
		return made, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("create node: %w", err)
	}
	found, err := n.client.CoreV1().Nodes().Get(ctx, s.Node, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get node: %w", err)
	}
	return found, nil
}

// refuse says once per session that a Node of this name is somebody else's.
func (n *Nodes) refuse(ctx context.Context, node *corev1.Node, st nodeState) {
	if st.refused {
		return
	}
	const text = "An edge of this name is connected, but this Node was not made by Skerry and is left alone. " +
		"Delete the Node, or join the edge under another name."
	n.log.Error("node exists and was not made by Skerry: delete it, or join the edge under another name", "edge", node.Name)
	now := metav1.Now()
	_, err := n.client.CoreV1().Events(metav1.NamespaceDefault).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, GenerateName: node.Name + "."},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: types.UID(node.Name)},
		Type:           corev1.EventTypeWarning, Reason: "NodeNotAdopted", Message: text,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source: corev1.EventSource{Component: owner},
	}, metav1.CreateOptions{})
	if err != nil {
		n.log.Warn("event can't be created", "edge", node.Name, "error", err)
	}
	n.change(node.Name, func(st *nodeState) { st.refused = true })
}

// annotations are those that the proxy sets.
func (n *Nodes) annotations(node string) map[string]string {
	all := map[string]string{AnnotationOwner: owner}
	if n.cfg.MetricsPath != nil {
		all[annotationMetrics] = n.cfg.MetricsPath(node)
	}
	if n.cfg.Annotations != nil {
		maps.Copy(all, n.cfg.Annotations(node))
	}
	return all
}

// ensureLabels adds labels and annotations that are missing or differ. It takes
// none away: people and controllers label Nodes, too.
func (n *Nodes) ensureLabels(ctx context.Context, node *corev1.Node, s *Session) error {
	all, _ := labels(s)
	missing, notes := lacks(node.Labels, all), lacks(node.Annotations, n.annotations(s.Node))
	if len(missing)+len(notes) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": node.UID, "labels": missing, "annotations": notes}})
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	if _, err := n.client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("label node: %w", err)
	}
	return nil
}

// lacks gives what of want is not in have.
func lacks(have, want map[string]string) map[string]string {
	missing := make(map[string]string)
	for k, v := range want {
		if h, ok := have[k]; !ok || h != v {
			missing[k] = v
		}
	}
	return missing
}

// port gives the port of a Node, which is the one that it shows while no other can be
// told; zero is none. An edge without one can't be asked for logs and the like, and is
// connected all the same.
func (n *Nodes) port(ctx context.Context, node *corev1.Node, st nodeState) int32 {
	port, err := n.cfg.Port(ctx, node.Name)
	if err == nil {
		if st.noPort {
			n.log.Info("node has a port again", "edge", node.Name, "port", port)
			n.change(node.Name, func(st *nodeState) { st.noPort = false })
		}
		return port
	}
	present := node.Status.DaemonEndpoints.KubeletEndpoint.Port
	if !st.noPort && ctx.Err() == nil {
		n.log.Error("node can't be given a port, and keeps what it has", "edge", node.Name, "port", present, "error", err)
		n.change(node.Name, func(st *nodeState) { st.noPort = true })
	}
	return present
}

// ensureStatus writes the proxy's address, and Ready when nothing better is
// known: the edge's own report has the last word.
func (n *Nodes) ensureStatus(ctx context.Context, node *corev1.Node, port int32) (err error) {
	status := n.statusOf(node, port)
	if !neverOrLost(findNodeCondition(status, corev1.NodeReady)) {
		return patchNodeStatus(ctx, n.client, node, status, "")
	}
	// The cache may be behind what the edge has said of itself since.
	if node, err = n.client.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{}); err != nil {
		return fmt.Errorf("get node: %w", err)
	}
	status = n.statusOf(node, port)
	if neverOrLost(findNodeCondition(status, corev1.NodeReady)) {
		now := metav1.Now()
		setNodeCondition(status, corev1.NodeCondition{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: reasonConnected, Message: "edge has a session",
			LastHeartbeatTime: now, LastTransitionTime: now,
		})
	}
	return patchNodeStatus(ctx, n.client, node, status, node.ResourceVersion)
}

// statusOf gives a Node's status with the parts that are the proxy's to say.
func (n *Nodes) statusOf(node *corev1.Node, port int32) *corev1.NodeStatus {
	status := node.Status.DeepCopy()
	// At an address without a port kube-apiserver takes the one that kubelets have,
	// which may be another edge's.
	if port != 0 {
		status.Addresses = n.cfg.Addresses
		status.DaemonEndpoints.KubeletEndpoint.Port = port
	}
	// The API wants them sorted and each once.
	features := slices.Concat(status.DeclaredFeatures, n.cfg.Features)
	slices.Sort(features)
	status.DeclaredFeatures = slices.Compact(features)
	if c := n.cfg.Condition(); c != nil {
		old := findNodeCondition(status, c.Type)
		switch {
		case old == nil && c.Status != corev1.ConditionTrue,
			old != nil && (old.Status != c.Status || old.Reason != c.Reason || old.Message != c.Message):
			setNodeCondition(status, *c)
		}
	}
	return status
}

// neverOrLost says that Ready was never said, or is what was written by offline
// or by the node controller for want of a heartbeat.
func neverOrLost(ready *corev1.NodeCondition) bool {
	return ready == nil || ready.Status != corev1.ConditionTrue &&
		(ready.Reason == reasonOffline || strings.HasPrefix(ready.Reason, "NodeStatus"))
}

// Wanted says that the Node of an edge, as last seen, lacks what only the edge can
// say: it is new, was made anew, or others have written over it.
func (n *Nodes) Wanted(name string) bool {
	o, ok, err := n.informer.GetIndexer().GetByKey(name)
	node, isNode := o.(*corev1.Node)
	return err == nil && ok && isNode && Owned(node) && lacksStatus(node)
}

func lacksStatus(node *corev1.Node) bool {
	ready := findNodeCondition(&node.Status, corev1.NodeReady)
	if ready == nil || ready.Reason == reasonConnected || ready.Reason == reasonOffline || len(node.Status.Capacity) == 0 {
		return true
	}
	for _, c := range node.Status.Conditions {
		// The node controller's, when a lease has expired.
		if c.Status == corev1.ConditionUnknown && strings.HasPrefix(c.Reason, "NodeStatus") {
			return true
		}
	}
	return false
}
