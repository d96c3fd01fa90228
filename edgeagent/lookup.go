package edgeagent

import (
	"context"

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
	out := kubeletapi.Pod{Namespace: namespace, Name: name, UID: string(p.UID)}
	reasons := waitingReasons(l.mgr, namespace, name)
	for _, c := range containerNames(&p) {
		out.Containers = append(out.Containers, describe(&p, c, reasons[c]))
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

func describe(p *pods.PodRuntime, name, reason string) kubeletapi.Container {
	out := kubeletapi.Container{Name: name, Reason: reason}
	c, ok := p.Container(name)
	if !ok {
		return out
	}
	switch c.State {
	case cri.StateRunning:
		out.State = kubeletapi.Running
	case cri.StateExited:
		out.State = kubeletapi.Terminated
	case cri.StateCreated, cri.StateUnknown:
	}
	out.Current = kubeletapi.Attempt{ID: c.ID, LogPath: c.LogPath}
	out.Previous = kubeletapi.Attempt{ID: c.PreviousID, LogPath: c.PreviousLogPath}
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

// commands runs the kubelet API's commands in the runtime.
type commands struct{ client *cri.Client }

// Exec implements kubeletapi.Runtime.
func (c commands) Exec(ctx context.Context, o kubeletapi.ExecOptions) (int, error) {
	var resize chan cri.Size
	if o.Resize != nil {
		resize = make(chan cri.Size)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go forwardSizes(ctx, o.Resize, resize)
	}
	return c.client.Exec(ctx, cri.ExecOptions{
		Container: o.ContainerID, Cmd: o.Command, TTY: o.TTY,
		Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Resize: resize,
	})
}

func forwardSizes(ctx context.Context, from <-chan kubeletapi.Size, to chan<- cri.Size) {
	defer close(to)
	for {
		select {
		case s, ok := <-from:
			if !ok {
				return
			}
			select {
			case to <- cri.Size(s):
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
