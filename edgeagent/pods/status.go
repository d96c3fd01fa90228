package pods

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/demand"
)

// status computes what the API shows of a pod. It is as pure as decide, which
// passes the outcome it has just decided, if any.
func status(in input, decided *outcome) *corev1.PodStatus {
	if s := refusedStatus(&in); s != nil {
		return s
	}
	b := &statusBuilder{input: in, prev: &in.pod.Status, outcome: in.mem.outcome}
	switch {
	case in.mem.status != nil:
		b.prev = in.mem.status
	case in.mem.before != nil:
		b.prev = in.mem.before
	}
	if decided != nil {
		b.outcome = decided
	}
	b.ending = in.gone || in.pod.DeletionTimestamp != nil || b.outcome != nil || terminal(lastPhase(in))
	b.ended = b.ending && !in.obs.running() && in.mem.ops[opStart] == nil
	return b.build()
}

// refusedStatus is that of a pod that was never let in: it has no containers. A
// new agent finds it in what the one before it kept.
func refusedStatus(in *input) *corev1.PodStatus {
	if len(in.obs.containers) > 0 {
		return nil
	}
	if o := in.mem.outcome; o == nil || !o.refused {
		before := in.mem.before
		if before == nil || before.Phase != corev1.PodFailed || len(before.ContainerStatuses) > 0 {
			return nil
		}
		s := before.DeepCopy()
		s.ObservedGeneration = in.pod.Generation
		return s
	}
	if in.mem.status != nil && in.mem.status.Phase == corev1.PodFailed {
		s := in.mem.status.DeepCopy()
		s.ObservedGeneration = in.pod.Generation
		return s
	}
	start := metav1.NewTime(startTime(*in)).Rfc3339Copy()
	s := &corev1.PodStatus{
		ObservedGeneration: in.pod.Generation, StartTime: &start, QOSClass: qosClass(in.pod),
		Phase: corev1.PodFailed, Reason: in.mem.outcome.reason, Message: in.mem.outcome.message,
	}
	b := &statusBuilder{input: *in, prev: &in.pod.Status}
	for _, t := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		b.add(s, corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reasonPodFailed})
	}
	b.add(s, b.scheduled())
	return s
}

type statusBuilder struct {
	input
	prev    *corev1.PodStatus
	outcome *outcome
	ending  bool // nothing will be started any more
	ended   bool // and nothing runs
}

func (b *statusBuilder) build() *corev1.PodStatus {
	start := metav1.NewTime(startTime(b.input)).Rfc3339Copy()
	s := &corev1.PodStatus{
		ObservedGeneration: b.pod.Generation,
		StartTime:          &start,
		QOSClass:           qosClass(b.pod),
		NominatedNodeName:  b.pod.Status.NominatedNodeName,
	}
	b.addresses(s)
	for i := range b.pod.Spec.InitContainers {
		s.InitContainerStatuses = append(s.InitContainerStatuses, b.container(&b.pod.Spec.InitContainers[i], true))
	}
	for i := range b.pod.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, b.container(&b.pod.Spec.Containers[i], false))
	}
	slices.SortFunc(s.ContainerStatuses, func(x, y corev1.ContainerStatus) int { return strings.Compare(x.Name, y.Name) })
	for i := range b.pod.Spec.EphemeralContainers {
		c := corev1.Container(b.pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		s.EphemeralContainerStatuses = append(s.EphemeralContainerStatuses, b.ephemeral(&c))
	}
	if b.ended {
		b.conclude(s)
	}
	b.phase(s)
	b.conditions(s)
	return s
}

// phase sets phase, reason and message. A terminal phase is shown only when
// nothing runs any more, and never taken back.
func (b *statusBuilder) phase(s *corev1.PodStatus) {
	computed := phaseOf(b.pod, s, b.ended, b.appStarted())
	if !b.ending && b.replacing() {
		computed = corev1.PodRunning
	}
	switch last := lastPhase(b.input); {
	case terminal(last):
		s.Phase = last
	case b.obs.running() && terminal(computed):
		s.Phase = b.prev.Phase
	case b.ended && (b.outcome != nil || !terminal(computed)):
		s.Phase = corev1.PodFailed
	case b.outcome != nil || b.ending && !b.ended:
		// Containers that stop one by one do not make the pod pending again.
		s.Phase = computed
		if b.prev.Phase == corev1.PodRunning {
			s.Phase = corev1.PodRunning
		}
	default:
		s.Phase = computed
	}
	if s.Phase == "" {
		s.Phase = corev1.PodPending
	}
	switch {
	case b.outcome != nil && s.Phase == corev1.PodFailed:
		s.Reason, s.Message = b.outcome.reason, b.outcome.message
	case s.Phase == b.prev.Phase:
		s.Reason, s.Message = b.prev.Reason, b.prev.Message
	}
}

func (b *statusBuilder) addresses(s *corev1.PodStatus) {
	for i, ip := range b.hostIPs {
		if i == 0 {
			s.HostIP = ip
		}
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip})
	}
	ips := b.obs.ips
	if b.pod.Spec.HostNetwork && b.obs.sandbox() != nil {
		ips = b.hostIPs
	}
	if len(ips) == 0 {
		// An address that was is better than none until there is a new one.
		s.PodIP, s.PodIPs = b.prev.PodIP, b.prev.PodIPs
		return
	}
	s.PodIP = ips[0]
	for _, ip := range ips {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
	}
}

// replacing says whether a container has ended only to be made again.
func (b *statusBuilder) replacing() bool {
	return slices.ContainsFunc(b.pod.Spec.Containers, func(c corev1.Container) bool {
		have := b.obs.newest(c.Name)
		return have != nil && have.state == cri.StateExited && b.mem.replaced[have.id]
	})
}

// appStarted says whether an app container was started in the present sandbox.
func (b *statusBuilder) appStarted() bool {
	for i := range b.pod.Spec.Containers {
		if c := b.obs.active(b.pod.Spec.Containers[i].Name); c != nil && c.state != cri.StateCreated {
			return true
		}
	}
	return false
}

// qosClass is the pod's class by its requests and limits of CPU and memory.
func qosClass(pod *corev1.Pod) corev1.PodQOSClass { return demand.QOS(pod) }

// apiTime has the API's resolution, so that a status compares equal to itself
// after a round trip.
func apiTime(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t).Rfc3339Copy()
}
