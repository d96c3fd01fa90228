package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// writeEvent creates an event with the name and times that the edge gave it, or
// brings the count of the one that is there up to date.
func (r *Receiver) writeEvent(ctx context.Context, node string, value []byte) error {
	var report corev1.Event
	if err := report.Unmarshal(value); err != nil {
		return &badReportError{fmt.Errorf("decode event: %w", err)}
	}
	if report.Namespace == "" || report.Name == "" {
		return &badReportError{errors.New("event without namespace or name")}
	}
	if err := r.mayReportOn(ctx, node, &report); err != nil {
		return err
	}
	ev := ownEvent(&report, node)
	events := r.client.CoreV1().Events(ev.Namespace)
	_, err := events.Create(ctx, ev, metav1.CreateOptions{})
	switch {
	case err == nil:
		return nil
	case apierrors.IsAlreadyExists(err):
		return r.updateEvent(ctx, node, ev)
	case apierrors.IsNotFound(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return fmt.Errorf("namespace %s of an event: %w", ev.Namespace, errGone)
	}
	return fmt.Errorf("create event %s/%s: %w", ev.Namespace, ev.Name, err)
}

// ownEvent keeps of an edge's event what is the edge's to say.
func ownEvent(report *corev1.Event, node string) *corev1.Event {
	ev := report.DeepCopy()
	ev.ObjectMeta = metav1.ObjectMeta{Namespace: report.Namespace, Name: report.Name}
	ev.Source.Host = node
	ev.ReportingInstance = node
	return ev
}

// mayReportOn says whether an event is about the edge's node or a pod bound to
// it. A pod that is gone can't be looked at; an event about its end is let
// through, and carries the edge's name.
func (r *Receiver) mayReportOn(ctx context.Context, node string, ev *corev1.Event) error {
	ref := ev.InvolvedObject
	switch ref.Kind {
	case "Node":
		if ref.Name != node {
			return fmt.Errorf("event about node %s: %w", ref.Name, errForeign)
		}
		return nil
	case "Pod":
		if ref.Namespace != ev.Namespace {
			return fmt.Errorf("event in %s about a pod in %s: %w", ev.Namespace, ref.Namespace, errForeign)
		}
		pod := r.pod(ref.Namespace, ref.Name)
		if pod == nil || pod.UID != ref.UID {
			var err error
			pod, err = r.client.CoreV1().Pods(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("get pod of an event: %w", err)
			}
		}
		if pod.UID == ref.UID && pod.Spec.NodeName != node {
			return fmt.Errorf("event about pod %s/%s of node %q: %w", ref.Namespace, ref.Name, pod.Spec.NodeName, errForeign)
		}
		return nil
	}
	return fmt.Errorf("event about a %s: %w", ref.Kind, errForeign)
}

func (r *Receiver) updateEvent(ctx context.Context, node string, ev *corev1.Event) error {
	events := r.client.CoreV1().Events(ev.Namespace)
	current, err := events.Get(ctx, ev.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("event expired: %w", errGone)
	}
	if err != nil {
		return fmt.Errorf("get event %s/%s: %w", ev.Namespace, ev.Name, err)
	}
	if current.Source.Host != node {
		return fmt.Errorf("event %s/%s is of %q: %w", ev.Namespace, ev.Name, current.Source.Host, errForeign)
	}
	if current.Count >= ev.Count {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"count": ev.Count, "lastTimestamp": ev.LastTimestamp, "message": ev.Message})
	if err != nil {
		return &badReportError{fmt.Errorf("encode patch: %w", err)}
	}
	if _, err := events.Patch(ctx, ev.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("patch event %s/%s: %w", ev.Namespace, ev.Name, err)
	}
	return nil
}
