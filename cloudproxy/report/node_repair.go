package report

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

// repairsAfterReturn is how often the pods of an edge are looked at after it
// came back, a lease interval apart: the node controller may be a moment late.
const repairsAfterReturn = 3

// sawChange notes that a Node is not marked for want of a session any more. The watch
// tells, whoever wrote it: the edge's own report is often faster than this replica, and
// an attempt of this one's that failed forgets nothing.
func (n *Nodes) sawChange(before, after *corev1.Node) {
	was := findNodeCondition(&before.Status, corev1.NodeReady)
	if was == nil || !neverOrLost(was) || neverOrLost(findNodeCondition(&after.Status, corev1.NodeReady)) || !Owned(after) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.states[after.Name]
	if st == nil {
		return
	}
	// If there is no session yet, it may be about to be noted.
	st.repairs = repairsAfterReturn
	if st.session != nil {
		n.log.Info("edge is back", "edge", after.Name)
		n.queue.Add(after.Name)
	}
}

// repairPods makes pods Ready again that the node controller made NotReady
// while their edge was away. The edge does not know that and has nothing new to
// say. A pod is ready when its containers are and its readiness gates are open;
// that can be told from its other conditions without asking the edge. A pod that
// can't be written holds up no other.
func (n *Nodes) repairPods(ctx context.Context, node string) error {
	pods, err := n.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return fmt.Errorf("list pods of node: %w", err)
	}
	var failed []error
	for i := range pods.Items {
		pod := &pods.Items[i]
		err := insist(func() error {
			err := n.repairPod(ctx, node, pod)
			if !apierrors.IsConflict(err) {
				return err
			}
			// The edge says something of the pod at the same moment.
			again, getErr := n.client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
			if getErr != nil {
				return getErr
			}
			if again.UID != pod.UID {
				return nil // it has nothing of the one that was there
			}
			pod = again
			return err
		})
		switch {
		case err == nil || apierrors.IsNotFound(err):
		case hopeless(err):
			n.log.Warn("pod can't be made ready again", "edge", node, "namespace", pod.Namespace, "pod", pod.Name, "error", err)
		default:
			failed = append(failed, fmt.Errorf("make pod %s/%s ready again: %w", pod.Namespace, pod.Name, err))
		}
	}
	return errors.Join(failed...)
}

func (n *Nodes) repairPod(ctx context.Context, node string, pod *corev1.Pod) error {
	if pod.Spec.NodeName != node || pod.DeletionTimestamp != nil || !shouldBeReady(pod) {
		return nil
	}
	status := pod.Status.DeepCopy()
	ready := findPodCondition(status.Conditions, corev1.PodReady)
	ready.Status = corev1.ConditionTrue
	ready.LastTransitionTime = metav1.Now()
	patch, err := statusPatch(corev1.Pod{Status: pod.Status},
		corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: pod.UID, ResourceVersion: pod.ResourceVersion}, Status: *status})
	if err != nil {
		return err
	}
	_, err = n.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
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
