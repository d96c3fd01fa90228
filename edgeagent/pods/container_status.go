package pods

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// The reasons of waiting and terminated containers are the kubelet's: tools
// and people look for these words.
const (
	reasonCreating         = "ContainerCreating"
	reasonInitializing     = "PodInitializing"
	reasonCrashLoop        = "CrashLoopBackOff"
	reasonErrImagePull     = "ErrImagePull"
	reasonImageBackOff     = "ImagePullBackOff"
	reasonImageNever       = "ErrImageNeverPull"
	reasonImageName        = "InvalidImageName"
	reasonImageInspect     = "ImageInspectError"
	reasonConfigError      = "CreateContainerConfigError"
	reasonCreateError      = "CreateContainerError"
	reasonRunError         = "RunContainerError"
	reasonPostStart        = "PostStartHookError"
	reasonStatusUnknown    = "ContainerStatusUnknown"
	lostContainerMessage   = "The container could not be located when the pod was terminated"
	lostContainerExit      = 137
	errImagePullShownFirst = 5 * time.Second
)

// container computes the status of an app or init container.
func (b *statusBuilder) container(c *corev1.Container, isInit bool) corev1.ContainerStatus {
	have := b.obs.newest(c.Name)
	prev := previousStatus(b.prev, c.Name)
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image}
	started := false
	if have != nil {
		b.fromInstance(&s, have, prev)
		started = hasStarted(b.mem, c, have) && !b.mem.starting(c.Name)
	} else {
		b.fromMemory(&s, prev)
	}
	if have != nil && have.state == cri.StateRunning && b.mem.starting(c.Name) {
		// Its postStart hook runs: for the API it is not there yet.
		s.State = corev1.ContainerState{}
	}
	if s.State == (corev1.ContainerState{}) {
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: b.waitingReason(isInit)}
	}
	wellInit := isInit && !sidecar(c) && have != nil && have.state == cri.StateExited && have.exitCode == 0
	if !b.ending && !wellInit {
		b.whyNotRunning(&s, c, have)
	}
	if have != nil {
		s.Resources, s.AllocatedResources = b.mem.resources(b.pod, c, have), c.Resources.Requests
	}
	s.Started = &started
	switch {
	case isInit && !sidecar(c):
		s.Ready = s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
	default:
		s.Ready = started && b.passedReadiness(c, have)
	}
	return s
}

func (b *statusBuilder) ephemeral(c *corev1.Container) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image}
	if have := b.obs.newest(c.Name); have != nil {
		b.fromInstance(&s, have, nil)
	} else {
		b.fromMemory(&s, previousStatus(b.prev, c.Name))
	}
	if s.State == (corev1.ContainerState{}) {
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: reasonCreating}
		if r := b.mem.starts[c.Name]; r != nil && r.reason != "" {
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: r.reason, Message: r.message}
		}
	}
	return s
}

func (b *statusBuilder) fromInstance(s *corev1.ContainerStatus, have *container, prev *corev1.ContainerStatus) {
	s.ContainerID = b.containerID(have.id)
	s.RestartCount = have.restarts
	s.ImageID = have.imageRef
	if have.image != "" {
		s.Image = have.image
	}
	s.State = b.state(have)
	if have.stopSignal != "" {
		s.StopSignal = new(corev1.Signal(have.stopSignal))
	}
	if u := have.user; u != nil {
		s.User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: u.UID, GID: u.GID, SupplementalGroups: u.SupplementalGroups}}
	}
	if p := b.obs.previous(have.name); p != nil && p.state == cri.StateExited {
		s.LastTerminationState = b.state(p)
	} else if prev != nil && prev.ContainerID == s.ContainerID {
		s.LastTerminationState = prev.LastTerminationState
	}
}

// fromMemory tells what was last known of a container that the runtime does not have.
func (b *statusBuilder) fromMemory(s *corev1.ContainerStatus, prev *corev1.ContainerStatus) {
	if prev == nil {
		return
	}
	s.RestartCount, s.ImageID, s.ContainerID = prev.RestartCount, prev.ImageID, prev.ContainerID
	s.LastTerminationState = prev.LastTerminationState
	s.Resources, s.AllocatedResources = prev.Resources, prev.AllocatedResources
	switch {
	case prev.State.Terminated != nil && (b.ending || b.mem.status == nil || b.obs.sandbox() != nil):
		s.State = prev.State
	case prev.State.Running != nil:
		// It ran and is not there any more. A pod that lives on gets a new one.
		if b.ending {
			s.State = lostState()
			return
		}
		s.LastTerminationState = lostState()
	}
}

// conclude gives the containers of an ended pod that have no end one: whatever became
// of them, it was no success. Those that were never to start go on waiting.
func (b *statusBuilder) conclude(s *corev1.PodStatus) {
	if b.wasInitialized(s) {
		lose(s.ContainerStatuses)
	}
	tried := min(1, len(s.InitContainerStatuses)) // that of the first is taken for granted
	for i, c := range s.InitContainerStatuses {
		if c.State.Waiting == nil || c.LastTerminationState.Terminated != nil {
			tried = i + 1
		}
	}
	lose(s.InitContainerStatuses[:tried])
	lose(s.EphemeralContainerStatuses)
}

// wasInitialized says whether app containers may have been started, as far as the
// status tells.
func (b *statusBuilder) wasInitialized(s *corev1.PodStatus) bool {
	for _, c := range s.ContainerStatuses {
		if c.State.Waiting == nil || c.LastTerminationState.Terminated != nil {
			return true
		}
	}
	n := len(s.InitContainerStatuses)
	if n == 0 {
		return true
	}
	last := &s.InitContainerStatuses[n-1]
	if sidecar(&b.pod.Spec.InitContainers[n-1]) {
		return last.State.Running != nil && last.Started != nil && *last.Started
	}
	for _, state := range []corev1.ContainerState{last.State, last.LastTerminationState} {
		if state.Terminated != nil && state.Terminated.ExitCode == 0 {
			return true
		}
	}
	return false
}

func lose(list []corev1.ContainerStatus) {
	for i := range list {
		if list[i].State.Terminated == nil {
			list[i].State = lostState()
		}
	}
}

func lostState() corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason: reasonStatusUnknown, Message: lostContainerMessage, ExitCode: lostContainerExit,
	}}
}

func (b *statusBuilder) state(c *container) corev1.ContainerState {
	switch c.state {
	case cri.StateRunning:
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: apiTime(c.started)}}
	case cri.StateExited:
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: c.exitCode, Reason: c.reason, Message: c.message,
			StartedAt: apiTime(c.started), FinishedAt: apiTime(c.finished), ContainerID: b.containerID(c.id),
		}}
	default:
		return corev1.ContainerState{}
	}
}

// whyNotRunning replaces the state of a container that should run by the
// reason why it does not yet.
func (b *statusBuilder) whyNotRunning(s *corev1.ContainerStatus, c *corev1.Container, have *container) {
	if s.State.Running != nil || !b.mem.shouldRestart(b.pod, c, have) {
		return
	}
	reason, message := b.startTrouble(c, have)
	if reason == "" {
		return
	}
	if s.State.Terminated != nil {
		s.LastTerminationState = s.State
	}
	s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func (b *statusBuilder) startTrouble(c *corev1.Container, have *container) (reason, message string) {
	rec := b.mem.starts[c.Name]
	if rec == nil {
		return "", ""
	}
	if have != nil && have.state == cri.StateExited && b.now.Before(rec.backoffUntil(have.end())) {
		return reasonCrashLoop, fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", rec.backoff, c.Name, podName(b.pod))
	}
	if backsOff(rec.reason) && b.now.Sub(rec.pullFailed) >= errImagePullShownFirst {
		return reasonImageBackOff, fmt.Sprintf("Back-off pulling image %q: %s: %s", c.Image, rec.reason, rec.message)
	}
	return rec.reason, rec.message
}

func (b *statusBuilder) waitingReason(isInit bool) string {
	if len(b.pod.Spec.InitContainers) > 0 && (isInit || !b.appStarted()) {
		return reasonInitializing
	}
	return reasonCreating
}

func (b *statusBuilder) passedReadiness(c *corev1.Container, have *container) bool {
	if c.ReadinessProbe == nil {
		return true
	}
	r := b.mem.probes[probeKey{have.id, probeReadiness}]
	return r != nil && r.passed
}

func (b *statusBuilder) containerID(id string) string { return b.runtime + "://" + id }

func previousStatus(s *corev1.PodStatus, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// podName is how the kubelet names a pod in messages.
func podName(pod *corev1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}
