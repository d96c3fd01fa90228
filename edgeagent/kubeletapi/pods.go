package kubeletapi

import (
	"context"
	"fmt"
	"net"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Pods finds pods of this edge.
type Pods interface {
	// Lookup finds a pod by name as it is now. An empty uid means whichever pod has
	// the name; a pod that is not the one meant is not found.
	Lookup(namespace, name, uid string) (Pod, bool)
}

// Runtime reaches into containers and pods; a *cri.Client does.
type Runtime interface {
	// Exec runs a command and returns its exit code once all its output was
	// written. The error is nil whenever the command ran and ended, whatever its
	// code. It ends the command when ctx ends.
	Exec(ctx context.Context, o cri.ExecOptions) (int, error)
	// Attach joins a container's own process and returns when that has ended, and
	// its output has been written, or when ctx ends.
	Attach(ctx context.Context, o cri.AttachOptions) error
	// DialPod connects to a TCP port inside the pod of a sandbox.
	DialPod(ctx context.Context, sandboxID string, port uint16) (net.Conn, error)
}

// State is what a container does.
type State int

// The states of a container.
const (
	Waiting State = iota
	Running
	Terminated
)

// Pod is a pod with what this API needs to know of it.
type Pod struct {
	Namespace, Name, UID string
	// SandboxID is the runtime's id of the sandbox, empty for none.
	SandboxID string
	// Containers are those of the spec: init containers, containers and ephemeral
	// ones, whether or not they were created yet.
	Containers []Container
}

// Container is one container of a pod.
type Container struct {
	Name  string
	State State
	// TTY says that its own process has a terminal.
	TTY bool
	// Reason is why it waits, such as ImagePullBackOff.
	Reason string
	// Current is the attempt that runs, or the one that has ended for good. While
	// the container waits, to be started or to be started again, it is empty.
	Current Attempt
	// Previous is the last attempt that ended before, if it is still there: what
	// `kubectl logs --previous` shows, also while the container waits.
	Previous Attempt
}

// Attempt is one run of a container.
type Attempt struct {
	// ID is the runtime's id, empty for none.
	ID string
	// LogPath is its log file.
	LogPath string
}

func (p Pod) container(name string) (Container, bool) {
	for _, c := range p.Containers {
		if c.Name == name {
			return c, true
		}
	}
	return Container{}, false
}

// logAttempt picks the attempt whose log is asked for, as the kubelet does: a
// container that waits to be started again shows how it ended.
func (c Container) logAttempt(pod string, previous bool) (Attempt, error) {
	switch {
	case previous && c.Previous.ID == "":
		return Attempt{}, &wire.Error{Code: wire.CodeBadRequest, Text: fmt.Sprintf("previous terminated container %q in pod %q not found", c.Name, pod)}
	case previous:
		return c.Previous, nil
	case c.Current.ID != "":
		return c.Current, nil
	case c.Previous.ID != "":
		return c.Previous, nil
	}
	return Attempt{}, &wire.Error{Code: wire.CodeNotRunning, Text: c.waiting(pod)}
}

// waiting says that the container was never started, and why, in the kubelet's words.
func (c Container) waiting(pod string) string {
	reason := c.Reason
	switch reason {
	case "ErrImagePull":
		reason = "image can't be pulled"
	case "ImagePullBackOff":
		reason = "trying and failing to pull image"
	case "":
		return fmt.Sprintf("container %q in pod %q is waiting to start - no logs yet", c.Name, pod)
	}
	return fmt.Sprintf("container %q in pod %q is waiting to start: %s", c.Name, pod, reason)
}

// find returns the container that a request means, or a *wire.Error.
func find(pods Pods, namespace, pod, uid, container string) (Container, error) {
	p, ok := pods.Lookup(namespace, pod, uid)
	if !ok {
		return Container{}, &wire.Error{Code: wire.CodeNotFound, Text: fmt.Sprintf("pod %q not found", pod)}
	}
	c, ok := p.container(container)
	if !ok {
		return Container{}, &wire.Error{Code: wire.CodeNotFound, Text: fmt.Sprintf("container %q not found in pod %q", container, pod)}
	}
	return c, nil
}
