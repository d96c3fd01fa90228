package pods

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// observed is what the runtime has of one pod.
type observed struct {
	sandboxes  []cri.Sandbox // newest first
	ips        []string      // of the newest sandbox, if it is ready
	containers []container   // newest first
	at         time.Time     // when the runtime was asked
}

// container is one instance of a container in the runtime.
type container struct {
	id, sandboxID, name        string
	state                      cri.ContainerState
	restarts                   int32
	hash                       uint64
	hashed                     bool      // hash is known
	created, started, finished time.Time // by the machine's clock, for people
	begun, ended               time.Time // local times, see clocks.go; zero takes those above
	exitCode                   int32
	reason, message            string
	image, imageRef            string
	logPath                    string
	grace                      time.Duration // what the pod said when it was made
	size                       amounts       // what it was made with
	sized                      bool          // size is known
	stopSignal                 string        // empty if the runtime does not say
	user                       *cri.User
}

// sandbox returns the newest sandbox.
func (o *observed) sandbox() *cri.Sandbox {
	if len(o.sandboxes) == 0 {
		return nil
	}
	return &o.sandboxes[0]
}

// newest returns the newest instance of a container, in any sandbox.
func (o *observed) newest(name string) *container {
	for i := range o.containers {
		if o.containers[i].name == name {
			return &o.containers[i]
		}
	}
	return nil
}

// active returns the newest instance of a container in the newest sandbox.
func (o *observed) active(name string) *container {
	s := o.sandbox()
	c := o.newest(name)
	if s == nil || c == nil || c.sandboxID != s.ID {
		return nil
	}
	return c
}

// previous returns the instance before the newest.
func (o *observed) previous(name string) *container {
	first := true
	for i := range o.containers {
		if o.containers[i].name != name {
			continue
		}
		if !first {
			return &o.containers[i]
		}
		first = false
	}
	return nil
}

// running says whether anything of the pod runs, or may run.
func (o *observed) running() bool {
	return slices.ContainsFunc(o.containers, func(c container) bool { return c.alive() })
}

// alive says whether the instance runs, or may.
func (c *container) alive() bool { return c.state == cri.StateRunning || c.state == cri.StateUnknown }

// observe asks the runtime for everything of one pod. What prev knows of an
// instance that has ended is not asked again: it cannot change, and its
// termination message may be rotated away by then.
func (e *env) observe(ctx context.Context, uid types.UID, prev *observed) (*observed, error) {
	now := time.Now()
	byUID := map[string]string{labelPodUID: string(uid)}
	sandboxes, err := e.cri.ListSandboxes(ctx, byUID)
	if err != nil {
		return nil, err
	}
	listed, err := e.cri.ListContainers(ctx, byUID)
	if err != nil {
		return nil, err
	}
	out := &observed{sandboxes: sandboxes, at: now}
	sortSandboxes(out.sandboxes)
	if s := out.sandbox(); s != nil && s.Ready && len(prev.addresses(s.ID)) > 0 {
		out.ips = prev.ips // they stay for the sandbox's life
	} else if s != nil && s.Ready {
		st, err := e.cri.SandboxStatus(ctx, s.ID)
		if err != nil && !errors.Is(err, cri.ErrNotFound) {
			return nil, err
		}
		out.ips = st.IPs
	}
	for _, l := range listed {
		if known := prev.find(l.ID); known != nil && known.state == l.State && l.State != cri.StateUnknown {
			out.containers = append(out.containers, *known)
			continue
		}
		st, err := e.cri.ContainerStatus(ctx, l.ID)
		if errors.Is(err, cri.ErrNotFound) {
			continue // removed since
		}
		if err != nil {
			return nil, fmt.Errorf("observe container %s: %w", l.ID, err)
		}
		c := fromStatus(&st)
		c.sandboxID = l.SandboxID
		c.place(prev, time.Now())
		if c.state == cri.StateExited {
			c.message = terminationMessage(&st)
		}
		out.containers = append(out.containers, c)
	}
	sortContainers(out.containers, out.sandboxes)
	return out, nil
}

// addresses returns the pod's IPs as known for this sandbox.
func (o *observed) addresses(sandboxID string) []string {
	if o == nil || o.sandbox() == nil || o.sandbox().ID != sandboxID {
		return nil
	}
	return o.ips
}

func (o *observed) find(id string) *container {
	if o == nil {
		return nil
	}
	for i := range o.containers {
		if o.containers[i].id == id {
			return &o.containers[i]
		}
	}
	return nil
}

func fromStatus(st *cri.ContainerStatus) container {
	c := container{
		id: st.ID, name: st.Labels[labelContainerName], state: st.State,
		created: st.CreatedAt, started: st.StartedAt, finished: st.FinishedAt,
		exitCode: st.ExitCode, reason: st.Reason,
		image: st.Image, imageRef: st.ImageRef, logPath: st.LogPath,
		stopSignal: st.StopSignal, user: st.User,
	}
	if c.name == "" {
		c.name = st.Name
	}
	c.size, c.sized = parseAmounts(st.Annotations[annotationSize])
	c.restarts, c.hash, c.hashed, c.grace = readAnnotations(st.Annotations)
	return c
}

// neverRan says whether the runtime gave the container up before it ran.
func neverRan(state cri.ContainerState, started time.Time) bool {
	return state == cri.StateExited && started.IsZero()
}

// unbegun shows as made and never started what never ran without a word of the
// runtime that it can't. A runtime gives up a start when who has asked for it is
// gone, and forgets half of one when it dies itself: that is no end of a container.
// answered are those of whose start it has told the end; before has what it told to
// a former agent.
func (o *observed) unbegun(answered map[string]bool, before *corev1.PodStatus) {
	for i := range o.containers {
		if c := &o.containers[i]; neverRan(c.state, c.started) && !answered[c.id] && !ended(before, c.id) {
			c.state = cri.StateCreated
		}
	}
}

// ended says whether a status tells that the container has ended.
func ended(s *corev1.PodStatus, id string) bool {
	if s == nil {
		return false
	}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			for _, t := range []*corev1.ContainerStateTerminated{list[i].State.Terminated, list[i].LastTerminationState.Terminated} {
				if t != nil && strings.HasSuffix(t.ContainerID, "://"+id) {
					return true
				}
			}
		}
	}
	return false
}
