package pods

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	reasonPodCompleted    = "PodCompleted"
	reasonPodFailed       = "PodFailed"
	reasonNotReady        = "ContainersNotReady"
	reasonNotInitialized  = "ContainersNotInitialized"
	reasonGatesNotReady   = "ReadinessGatesNotReady"
	reasonSandboxNotReady = "PodSandboxNotReady"
)

// conditions sets the conditions that a node owns and keeps all others.
func (b *statusBuilder) conditions(s *corev1.PodStatus) {
	for i := range b.pod.Status.Conditions {
		c := b.pod.Status.Conditions[i]
		switch c.Type {
		case corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled,
			corev1.PodResizePending, corev1.PodResizeInProgress:
		default:
			s.Conditions = append(s.Conditions, c)
		}
	}
	ready := b.containersReady(s)
	b.add(s, b.sandboxReady())
	b.add(s, b.initialized(s))
	b.add(s, b.podReady(s, ready))
	b.add(s, ready)
	b.add(s, b.scheduled())
	b.disrupted(s)
	if terminal(s.Phase) {
		return
	}
	b.notice(s, corev1.PodResizePending, b.mem.pending)
	b.notice(s, corev1.PodResizeInProgress, b.mem.progress)
}

// notice tells of a resize that goes on.
func (b *statusBuilder) notice(s *corev1.PodStatus, t corev1.PodConditionType, n *notice) {
	if n == nil {
		return
	}
	b.add(s, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, Reason: n.reason, Message: n.message})
	s.Conditions[len(s.Conditions)-1].ObservedGeneration = n.generation
}

// disrupted tells controllers that the pod did not fail by itself.
func (b *statusBuilder) disrupted(s *corev1.PodStatus) {
	if b.outcome == nil || b.outcome.disruption == "" || findCondition(s.Conditions, corev1.DisruptionTarget) != nil {
		return
	}
	b.add(s, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: corev1.PodReasonTerminationByKubelet, Message: b.outcome.disruption,
	})
}

// add completes a condition with its transition time: that of the last change
// of its status.
func (b *statusBuilder) add(s *corev1.PodStatus, c corev1.PodCondition) {
	c.ObservedGeneration = b.pod.Generation
	if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = apiTime(b.now)
		if p := findCondition(b.prev.Conditions, c.Type); p != nil && p.Status == c.Status && !p.LastTransitionTime.IsZero() {
			c.LastTransitionTime = p.LastTransitionTime
		}
	}
	s.Conditions = append(s.Conditions, c)
}

func (b *statusBuilder) sandboxReady() corev1.PodCondition {
	needs, _, why := sandboxNeeded(b.pod, b.obs)
	if needs || b.mem.ops[opSandbox] != nil {
		return corev1.PodCondition{
			Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse,
			Reason: reasonSandboxNotReady, Message: why,
		}
	}
	return corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue}
}

func (b *statusBuilder) initialized(s *corev1.PodStatus) corev1.PodCondition {
	out := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if s.Phase == corev1.PodSucceeded {
		out.Reason = reasonPodCompleted
		return out
	}
	if b.anyStarted(s) {
		return out // once initialized, restarting sidecars do not undo it
	}
	var open []string
	for i := range b.pod.Spec.InitContainers {
		c, cs := &b.pod.Spec.InitContainers[i], &s.InitContainerStatuses[i]
		if sidecar(c) && (cs.Started == nil || !*cs.Started) || !sidecar(c) && !cs.Ready {
			open = append(open, c.Name)
		}
	}
	if len(open) > 0 {
		out.Status, out.Reason = corev1.ConditionFalse, reasonNotInitialized
		out.Message = fmt.Sprintf("containers with incomplete status: %s", open)
	}
	return out
}

// anyStarted says whether an app container was ever started.
func (b *statusBuilder) anyStarted(s *corev1.PodStatus) bool {
	for i := range s.ContainerStatuses {
		cs := &s.ContainerStatuses[i]
		if cs.State.Running != nil || cs.LastTerminationState.Terminated != nil ||
			cs.State.Terminated != nil && cs.State.Terminated.Reason != reasonStatusUnknown {
			return true
		}
	}
	return false
}

func (b *statusBuilder) containersReady(s *corev1.PodStatus) corev1.PodCondition {
	out := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse}
	switch s.Phase {
	case corev1.PodSucceeded:
		out.Reason = reasonPodCompleted
		return out
	case corev1.PodFailed:
		out.Reason = reasonPodFailed
		return out
	default:
	}
	var unready []string
	for i := range b.pod.Spec.InitContainers {
		if c := &b.pod.Spec.InitContainers[i]; sidecar(c) && !s.InitContainerStatuses[i].Ready {
			unready = append(unready, c.Name)
		}
	}
	for i := range b.pod.Spec.Containers {
		name := b.pod.Spec.Containers[i].Name
		if cs := previousStatus(s, name); cs == nil || !cs.Ready {
			unready = append(unready, name)
		}
	}
	if len(unready) > 0 {
		out.Reason, out.Message = reasonNotReady, fmt.Sprintf("containers with unready status: %s", unready)
		return out
	}
	out.Status = corev1.ConditionTrue
	return out
}

func (b *statusBuilder) podReady(s *corev1.PodStatus, containers corev1.PodCondition) corev1.PodCondition {
	out := containers
	out.Type = corev1.PodReady
	if containers.Status != corev1.ConditionTrue {
		return out
	}
	var open []string
	for _, gate := range b.pod.Spec.ReadinessGates {
		c := findCondition(s.Conditions, gate.ConditionType)
		switch {
		case c == nil:
			open = append(open, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		case c.Status != corev1.ConditionTrue:
			open = append(open, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, c.Status))
		}
	}
	if len(open) > 0 {
		out.Status, out.Reason, out.Message = corev1.ConditionFalse, reasonGatesNotReady, strings.Join(open, ", ")
	}
	return out
}

// scheduled repeats what the scheduler said; a pod that is here was scheduled.
func (b *statusBuilder) scheduled() corev1.PodCondition {
	if c := findCondition(b.pod.Status.Conditions, corev1.PodScheduled); c != nil {
		return *c
	}
	return corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}
}

func findCondition(list []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}
