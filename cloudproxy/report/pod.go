package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// ownPod reads the pod that an edge reports on, from the API itself: a patch is
// made against it, and a cache that is behind would leave old values standing.
func (r *Receiver) ownPod(ctx context.Context, node, namespace, name string, uid types.UID) (*corev1.Pod, error) {
	// A pod that is bound stays on its node; what is foreign in the cache is so.
	if pod := r.pod(namespace, name); pod != nil && pod.UID == uid && pod.Spec.NodeName != "" && pod.Spec.NodeName != node {
		return nil, fmt.Errorf("pod %s/%s is bound to node %q: %w", namespace, name, pod.Spec.NodeName, errForeign)
	}
	pod, err := r.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("pod %s/%s: %w", namespace, name, errGone)
	case err != nil:
		return nil, fmt.Errorf("get pod %s/%s: %w", namespace, name, err)
	case pod.UID != uid:
		return nil, fmt.Errorf("pod %s/%s has UID %s, report is about %s: %w", namespace, name, pod.UID, uid, errGone)
	case pod.Spec.NodeName != node:
		return nil, fmt.Errorf("pod %s/%s is bound to node %q: %w", namespace, name, pod.Spec.NodeName, errForeign)
	}
	return pod, nil
}

func (r *Receiver) writePodStatus(ctx context.Context, node string, place stamp, value []byte) error {
	var report corev1.Pod
	if err := report.Unmarshal(value); err != nil {
		return &badReportError{fmt.Errorf("decode pod status: %w", err)}
	}
	if report.Namespace == "" || report.Name == "" || report.UID == "" {
		return &badReportError{errors.New("pod status without namespace, name or UID")}
	}
	pod, err := r.ownPod(ctx, node, report.Namespace, report.Name, report.UID)
	if err != nil {
		return err
	}
	status := mergePodStatus(&pod.Status, &report.Status)
	if err := place.onPod(&pod.Status, status); err != nil {
		return fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	if equality.Semantic.DeepEqual(&pod.Status, status) {
		return nil
	}
	patch, err := statusPatch(corev1.Pod{Status: pod.Status},
		corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: pod.UID, ResourceVersion: pod.ResourceVersion}, Status: *status})
	if err != nil {
		return err
	}
	// The resourceVersion is that of the stamp which was looked at. The UID in the patch makes the API server refuse it for a pod that took the
	// name meanwhile; what the refusal is about shows when the pod is read again.
	_, err = r.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsInvalid(err) || apierrors.IsNotFound(err) {
		if _, again := r.ownPod(ctx, node, report.Namespace, report.Name, report.UID); again != nil {
			return again
		}
	}
	if err != nil {
		return fmt.Errorf("patch status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// mergePodStatus gives the status that the API should show: what the edge says,
// and what others wrote into the same object.
func mergePodStatus(current, reported *corev1.PodStatus) *corev1.PodStatus {
	s := reported.DeepCopy()
	// A pod that has finished stays so, whatever an older report says.
	if current.Phase == corev1.PodSucceeded || current.Phase == corev1.PodFailed {
		s.Phase = current.Phase
	}
	if s.QOSClass == "" {
		s.QOSClass = current.QOSClass
	}
	if s.StartTime == nil {
		s.StartTime = current.StartTime
	}
	s.NominatedNodeName = current.NominatedNodeName
	if s.ResourceClaimStatuses == nil {
		s.ResourceClaimStatuses = current.ResourceClaimStatuses
	}
	if s.ExtendedResourceClaimStatus == nil {
		s.ExtendedResourceClaimStatus = current.ExtendedResourceClaimStatus
	}
	// What the edge says of conditions of others is what it was once sent.
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c corev1.PodCondition) bool {
		return !ownCondition(c.Type) && (!mayAdd(c.Type) || findPodCondition(current.Conditions, c.Type) != nil)
	})
	for _, c := range current.Conditions {
		if !ownCondition(c.Type) && findPodCondition(s.Conditions, c.Type) == nil {
			s.Conditions = append(s.Conditions, c)
		}
	}
	return s
}

// ownCondition says which conditions are the node's to set and take away. All
// others are readiness gates and the like, of other controllers.
func ownCondition(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodReady, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReadyToStartContainers,
		corev1.PodResizePending, corev1.PodResizeInProgress:
		return true
	default:
		return false
	}
}

// mayAdd says which conditions of others a node sets when they are not there: of a pod
// that was bound without a scheduler, and of one that the node evicts.
func mayAdd(t corev1.PodConditionType) bool {
	return t == corev1.PodScheduled || t == corev1.DisruptionTarget
}

func findPodCondition(conditions []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range conditions {
		if conditions[i].Type == t {
			return &conditions[i]
		}
	}
	return nil
}

// statusPatch gives the strategic merge patch from before to after.
func statusPatch[T any](before, after T) ([]byte, error) {
	a, err := json.Marshal(before)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	b, err := json.Marshal(after)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	var schema T
	patch, err := strategicpatch.CreateTwoWayMergePatch(a, b, schema)
	if err != nil {
		return nil, fmt.Errorf("make patch: %w", err)
	}
	return patch, nil
}

// writePodGone takes the API object of a pod away, of which nothing is left at
// its edge. Only a pod that was to be deleted goes: an edge can't delete others.
func (r *Receiver) writePodGone(ctx context.Context, node, key string, value []byte) error {
	resource, namespace, name, _, ok := wire.SplitKey(key)
	if !ok || resource != wire.ResourcePods || len(value) == 0 {
		return &badReportError{fmt.Errorf("pod gone with key %q and %d bytes of UID", key, len(value))}
	}
	uid := types.UID(value)
	pod, err := r.ownPod(ctx, node, namespace, name, uid)
	if err != nil {
		return err
	}
	if pod.DeletionTimestamp == nil {
		return fmt.Errorf("pod %s/%s is not being deleted: %w", namespace, name, errForeign)
	}
	grace := int64(0)
	err = r.client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{
		GracePeriodSeconds: &grace,
		Preconditions:      &metav1.Preconditions{UID: &uid},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete pod %s/%s: %w", namespace, name, err)
	}
	return nil
}
