package edgeagent

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/pods"
)

// podLookup shows the pods to the kubelet API.
type podLookup struct{ mgr *pods.Manager }

// Lookup implements kubeletapi.Pods.
func (l podLookup) Lookup(namespace, name, uid string) (kubeletapi.Pod, bool) {
	p, ok := l.mgr.Lookup(namespace, name, types.UID(uid))
	if !ok {
		return kubeletapi.Pod{}, false
	}
	out := kubeletapi.Pod{Namespace: namespace, Name: name, UID: string(p.UID), SandboxID: p.SandboxID}
	reasons := waitingReasons(l.mgr, namespace, name)
	for _, c := range containerNames(&p) {
		d := describe(&p, c, reasons[c])
		d.TTY = hasTerminal(p.Pod, c)
		out.Containers = append(out.Containers, d)
	}
	return out, true
}

// containerNames lists the spec's containers, and of a pod whose spec is gone
// what the runtime still has.
func containerNames(p *pods.PodRuntime) []string {
	var names []string
	if p.Pod == nil {
		for _, c := range p.Containers {
			names = append(names, c.Name)
		}
		return names
	}
	for _, c := range p.Pod.Spec.InitContainers {
		names = append(names, c.Name)
	}
	for _, c := range p.Pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range p.Pod.Spec.EphemeralContainers {
		names = append(names, c.Name)
	}
	return names
}

// hasTerminal says whether a container's own process has a terminal.
func hasTerminal(pod *corev1.Pod, name string) bool {
	if pod == nil {
		return false
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return list[i].TTY
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if c := &pod.Spec.EphemeralContainers[i]; c.Name == name {
			return c.TTY
		}
	}
	return false
}

// describe tells what the kubelet API needs of a container. One that has ended
// and is to run again waits, as its status says; its last run is then the one
// before.
func describe(p *pods.PodRuntime, name, reason string) kubeletapi.Container {
	out := kubeletapi.Container{Name: name, Reason: reason}
	c, ok := p.Container(name)
	if !ok {
		return out
	}
	last := kubeletapi.Attempt{ID: c.ID, LogPath: c.LogPath}
	before := kubeletapi.Attempt{ID: c.PreviousID, LogPath: c.PreviousLogPath}
	switch c.State {
	case cri.StateRunning:
		out.State, out.Current, out.Previous = kubeletapi.Running, last, before
	case cri.StateExited:
		if reason != "" {
			out.Previous = last
			return out
		}
		out.State, out.Current, out.Previous = kubeletapi.Terminated, last, before
	case cri.StateCreated, cri.StateUnknown:
		out.Previous = before
	}
	return out
}

// waitingReasons tells why containers wait, by name.
func waitingReasons(mgr *pods.Manager, namespace, name string) map[string]string {
	status, ok := mgr.Status(namespace, name)
	if !ok {
		return nil
	}
	reasons := map[string]string{}
	for _, list := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range list {
			if w := list[i].State.Waiting; w != nil {
				reasons[list[i].Name] = w.Reason
			}
		}
	}
	return reasons
}
