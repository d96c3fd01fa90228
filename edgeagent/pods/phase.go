package pods

import corev1 "k8s.io/api/core/v1"

// tally counts the containers of a pod for its phase.
type tally struct {
	pendingInit, pendingSidecar int
	failedInit                  bool // for good
	unknown, running, waiting   int
	stopped, final, succeeded   int
}

// phaseOf computes the phase from the container statuses. Ended says that no
// container will start again; initialized that an app container has started.
func phaseOf(pod *corev1.Pod, s *corev1.PodStatus, ended, initialized bool) corev1.PodPhase {
	var t tally
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		cs := &s.InitContainerStatuses[i]
		if sidecar(c) {
			t.sidecar(cs)
		} else {
			t.init(pod, c, cs)
		}
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		t.app(pod, c, previousStatus(s, c.Name))
	}
	switch {
	case t.failedInit:
		return corev1.PodFailed
	case t.pendingInit > 0, t.pendingSidecar > 0 && !initialized, t.waiting > 0:
		return corev1.PodPending
	case t.running > 0 && t.unknown == 0:
		return corev1.PodRunning
	case t.running == 0 && t.stopped > 0 && t.unknown == 0:
		switch {
		case !ended && t.stopped != t.final:
			return corev1.PodRunning // one is about to restart
		case t.stopped == t.succeeded:
			return corev1.PodSucceeded
		default:
			return corev1.PodFailed
		}
	default:
		return corev1.PodPending
	}
}

func (t *tally) init(pod *corev1.Pod, c *corev1.Container, s *corev1.ContainerStatus) {
	end := s.State.Terminated
	if s.State.Waiting != nil {
		end = s.LastTerminationState.Terminated
	}
	switch {
	case end == nil:
		t.pendingInit++
	case end.ExitCode != 0:
		if !restartAfter(pod, c, end.ExitCode) {
			t.failedInit = true
		} else if s.State.Waiting != nil {
			t.pendingInit++
		}
	case s.State.Waiting != nil:
		t.pendingInit++ // it ended well once, and runs again in a new sandbox
	}
}

func (t *tally) sidecar(s *corev1.ContainerStatus) {
	switch {
	case s.State.Running != nil:
		if s.Started == nil || !*s.Started {
			t.pendingSidecar++
		}
		t.running++
	case s.State.Waiting != nil && s.LastTerminationState.Terminated == nil:
		t.pendingSidecar++
		t.waiting++
	}
}

func (t *tally) app(pod *corev1.Pod, c *corev1.Container, s *corev1.ContainerStatus) {
	if s == nil {
		t.unknown++
		return
	}
	end := s.State.Terminated
	switch {
	case s.State.Running != nil:
		t.running++
		return
	case s.State.Waiting != nil && s.LastTerminationState.Terminated == nil:
		t.waiting++
		return
	case s.State.Waiting != nil:
		end = s.LastTerminationState.Terminated
	case end == nil:
		t.unknown++
		return
	}
	t.stopped++
	if !restartAfter(pod, c, end.ExitCode) {
		t.final++
	}
	if s.State.Terminated != nil && end.ExitCode == 0 {
		t.succeeded++
	}
}
