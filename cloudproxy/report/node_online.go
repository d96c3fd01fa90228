package report

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// LabelEdge is "true" on the Nodes of edges.
	LabelEdge = "skerry.io/edge"
	// AnnotationOwner says that this package made the Node.
	AnnotationOwner = "skerry.io/owner"
	owner           = "cloudproxy"

	reasonConnected = "EdgeConnected"
	reasonOffline   = "EdgeOffline"
	// repairsAfterReturn is how often the pods of an edge are looked at after it
	// came back, a lease interval apart: the node controller may be a moment late.
	repairsAfterReturn = 3
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
	if err := n.ensureLabels(ctx, node, st.session); err != nil {
		return 0, err
	}
	returned, err := n.ensureStatus(ctx, node)
	if err != nil {
		return 0, err
	}
	if err := n.renewInTime(ctx, node, st); err != nil {
		return 0, err
	}
	repairs := st.repairs
	if returned {
		n.log.Info("edge is back", "edge", name)
		repairs = repairsAfterReturn
	}
	if repairs > 0 {
		if err := n.repairPods(ctx, name); err != nil {
			return 0, err
		}
		repairs--
	}
	n.change(name, func(st *nodeState) { st.repairs = repairs })
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
		Annotations: map[string]string{AnnotationOwner: owner},
	}}
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

// labels are those that Kubernetes wants, ours, and the operator's. It gives back
// those of the operator's that may not be.
func labels(s *Session) (all map[string]string, bad []string) {
	all = make(map[string]string)
	for _, text := range s.Hello.Labels {
		key, value, ok := strings.Cut(text, "=")
		if !ok || !mayLabel(key) || len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
			bad = append(bad, text)
			continue
		}
		all[key] = value
	}
	for key, value := range map[string]string{
		corev1.LabelOSStable:           s.Hello.OS,
		corev1.LabelArchStable:         s.Hello.Arch,
		corev1.LabelHostname:           s.Node,
		"node-role.kubernetes.io/edge": "",
		LabelEdge:                      "true",
	} {
		// The name of a Node may be longer than a label's value. A Node without one
		// label is better than none.
		if len(validation.IsValidLabelValue(value)) == 0 {
			all[key] = value
		}
	}
	return all, bad
}

// mayLabel keeps edges from giving themselves roles: of Kubernetes' own labels
// they may set those that kubelets may.
func mayLabel(key string) bool {
	switch key {
	case corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelInstanceTypeStable:
		return true
	}
	domain, _, ok := strings.Cut(key, "/")
	if !ok {
		return true
	}
	for _, d := range []string{"kubernetes.io", "k8s.io", "skerry.io"} {
		if domain == d || strings.HasSuffix(domain, "."+d) {
			return false
		}
	}
	return true
}

// ensureLabels adds labels that are missing or differ. It takes none away: people
// and controllers label Nodes, too.
func (n *Nodes) ensureLabels(ctx context.Context, node *corev1.Node, s *Session) error {
	missing := make(map[string]string)
	all, _ := labels(s)
	for k, v := range all {
		if have, ok := node.Labels[k]; !ok || have != v {
			missing[k] = v
		}
	}
	if len(missing) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": node.UID, "labels": missing}})
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	if _, err := n.client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("label node: %w", err)
	}
	return nil
}

// ensureStatus writes the proxy's address, and Ready when nothing better is
// known: the edge's own report has the last word. It says whether the Node had
// been marked for want of a session.
func (n *Nodes) ensureStatus(ctx context.Context, node *corev1.Node) (returned bool, err error) {
	status := n.statusOf(node)
	if !neverOrLost(findNodeCondition(status, corev1.NodeReady)) {
		return false, patchNodeStatus(ctx, n.client, node, status, "")
	}
	// The cache may be behind what the edge has said of itself since.
	if node, err = n.client.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{}); err != nil {
		return false, fmt.Errorf("get node: %w", err)
	}
	status = n.statusOf(node)
	if ready := findNodeCondition(status, corev1.NodeReady); neverOrLost(ready) {
		returned = ready != nil
		now := metav1.Now()
		setNodeCondition(status, corev1.NodeCondition{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: reasonConnected, Message: "edge has a session",
			LastHeartbeatTime: now, LastTransitionTime: now,
		})
	}
	return returned, patchNodeStatus(ctx, n.client, node, status, node.ResourceVersion)
}

// statusOf gives a Node's status with the parts that are the proxy's to say.
func (n *Nodes) statusOf(node *corev1.Node) *corev1.NodeStatus {
	status := node.Status.DeepCopy()
	status.Addresses = n.cfg.Addresses
	status.DaemonEndpoints.KubeletEndpoint.Port = n.cfg.KubeletPort
	return status
}

// neverOrLost says that Ready was never said, or is what was written by offline
// or by the node controller for want of a heartbeat.
func neverOrLost(ready *corev1.NodeCondition) bool {
	return ready == nil || ready.Status != corev1.ConditionTrue &&
		(ready.Reason == reasonOffline || strings.HasPrefix(ready.Reason, "NodeStatus"))
}

// repairPods makes pods Ready again that the node controller made NotReady
// while their edge was away. The edge does not know that and has nothing new to
// say. A pod is ready when its containers are and its readiness gates are open;
// that can be told from its other conditions without asking the edge.
func (n *Nodes) repairPods(ctx context.Context, node string) error {
	pods, err := n.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return fmt.Errorf("list pods of node: %w", err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Spec.NodeName != node || pod.DeletionTimestamp != nil || !shouldBeReady(pod) {
			continue
		}
		status := pod.Status.DeepCopy()
		ready := findPodCondition(status.Conditions, corev1.PodReady)
		ready.Status = corev1.ConditionTrue
		ready.LastTransitionTime = metav1.Now()
		patch, err := statusPatch(corev1.Pod{Status: pod.Status},
			corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: pod.UID}, Status: *status})
		if err == nil {
			_, err = n.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("make pod %s/%s ready again: %w", pod.Namespace, pod.Name, err)
		}
	}
	return nil
}

// shouldBeReady says that a pod is shown as not ready and nothing in it is.
func shouldBeReady(pod *corev1.Pod) bool {
	is := func(t corev1.PodConditionType, want corev1.ConditionStatus) bool {
		c := findPodCondition(pod.Status.Conditions, t)
		return c != nil && c.Status == want
	}
	if !is(corev1.PodReady, corev1.ConditionFalse) || !is(corev1.ContainersReady, corev1.ConditionTrue) {
		return false
	}
	for _, g := range pod.Spec.ReadinessGates {
		if !is(g.ConditionType, corev1.ConditionTrue) {
			return false
		}
	}
	return true
}
