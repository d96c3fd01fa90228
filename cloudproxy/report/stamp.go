package report

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConditionReported is the type of the condition of pods and Nodes of edges that
// says which report of its edge a status is from.
const ConditionReported = "skerry.io/Reported"

const (
	reasonReported = "EdgeReported"
	// stampLife is how long a stamp holds off what was reported before. A replica that
	// has lost its edge ends the stream long before. An edge whose disk was put back to
	// what it once was gives out the same seqs again; its reports wait for that long.
	stampLife = 15 * time.Minute
)

// errOvertaken says that a later report of the same object has been written, by
// another replica: the edge is there, and this one has not noticed. It is no
// verdict.
var errOvertaken = errors.New("a later report was written by another replica")

// stamp is a report's place in the outbox of its edge. It is written with a status,
// in the same patch, which holds only for what was read before: so no report can
// take the place of a later one, whoever is slow, and wherever.
type stamp struct {
	outbox [8]byte
	seq    uint64
}

// known is false for what an edge reports that has not told its outbox.
func (s stamp) known() bool { return s.outbox != [8]byte{} }

func (s stamp) String() string { return fmt.Sprintf("report %d of outbox %x", s.seq, s.outbox) }

// check fails when a status was written at a time, with the stamp that text says,
// that takes precedence.
func (s stamp) check(text string, at metav1.Time) error {
	var seq uint64
	var outbox []byte
	if n, err := fmt.Sscanf(text, "report %d of outbox %x", &seq, &outbox); n != 2 || err != nil || !s.known() {
		return nil //nolint:nilerr // nothing to compare with
	}
	if string(outbox) != string(s.outbox[:]) || seq <= s.seq || time.Since(at.Time).Abs() > stampLife {
		return nil
	}
	return fmt.Errorf("report %d has come: %w", seq, errOvertaken)
}

// overPod fails when the status of a pod is from a later report.
func (s stamp) overPod(current *corev1.PodStatus) error {
	old := findPodCondition(current.Conditions, ConditionReported)
	if old == nil {
		return nil
	}
	return s.check(old.Message, old.LastTransitionTime)
}

// onPod puts s into a status that is to be written in place of current.
func (s stamp) onPod(current, status *corev1.PodStatus) error {
	if err := s.overPod(current); err != nil {
		return err
	}
	if !s.known() {
		return nil
	}
	old := findPodCondition(current.Conditions, ConditionReported)
	c := corev1.PodCondition{
		Type: ConditionReported, Status: corev1.ConditionTrue, Reason: reasonReported, Message: s.String(), LastTransitionTime: metav1.Now(),
	}
	if old != nil && old.Message == c.Message {
		c = *old // the same report once more changes nothing
	}
	if there := findPodCondition(status.Conditions, ConditionReported); there != nil {
		*there = c
		return nil
	}
	status.Conditions = append(status.Conditions, c)
	return nil
}

// onNode does the same with a Node's status, which holds the current stamp.
func (s stamp) onNode(status *corev1.NodeStatus) error {
	old := findNodeCondition(status, ConditionReported)
	if old != nil {
		if err := s.check(old.Message, old.LastTransitionTime); err != nil {
			return err
		}
	}
	if !s.known() || old != nil && old.Message == s.String() {
		return nil
	}
	now := metav1.Now()
	setNodeCondition(status, corev1.NodeCondition{
		Type: ConditionReported, Status: corev1.ConditionTrue, Reason: reasonReported, Message: s.String(),
		LastHeartbeatTime: now, LastTransitionTime: now,
	})
	return nil
}
