package report

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// TestConditionsOfOthers: an edge says again what it was once sent of conditions that
// others set, and takes none of them back.
func TestConditionsOfOthers(t *testing.T) {
	is := func(kind corev1.PodConditionType, status corev1.ConditionStatus) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, Status: status}
	}
	const gate, gone = corev1.PodConditionType("example.com/gate"), corev1.PodConditionType("example.com/gone")
	current := &corev1.PodStatus{Conditions: []corev1.PodCondition{
		is(corev1.PodReady, corev1.ConditionFalse), is(gate, corev1.ConditionTrue), is(corev1.PodScheduled, corev1.ConditionTrue),
	}}
	reported := &corev1.PodStatus{Conditions: []corev1.PodCondition{
		is(gate, corev1.ConditionFalse), is(gone, corev1.ConditionTrue), is(corev1.PodReady, corev1.ConditionTrue),
		is(corev1.PodScheduled, corev1.ConditionFalse), is(corev1.DisruptionTarget, corev1.ConditionTrue),
	}}
	want := []corev1.PodCondition{
		is(corev1.PodReady, corev1.ConditionTrue), is(corev1.DisruptionTarget, corev1.ConditionTrue),
		is(gate, corev1.ConditionTrue), is(corev1.PodScheduled, corev1.ConditionTrue),
	}
	if d := cmp.Diff(want, mergePodStatus(current, reported).Conditions); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
