package pods

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// memory is what a worker knows beyond the desired pod and the runtime. All of
// it may be lost: a new agent does the same things, at worst once more.
type memory struct {
	// status is the last one computed; it holds transition times and what was
	// last known of containers that the runtime has forgotten.
	status *corev1.PodStatus
	// before is the last status that a former agent reported, if it was kept.
	before *corev1.PodStatus
	// began is when this node took the pod, as a local time.
	began time.Time
	// volumes and sandbox are the two steps before any container.
	volumes step
	sandbox step
	// volumesStale says that an object behind a mounted volume has changed.
	volumesStale bool
	// starts has one record per container name.
	starts map[string]*startRecord
	// probes has one record per container instance and kind.
	probes map[probeKey]*probeRecord
	// ops are the actions in flight.
	ops map[string]*op
	// outcome is set when the agent itself has ended the pod.
	outcome *outcome
	// unadmitted: the pod may not start yet, and asks again at admitAt.
	unadmitted bool
	admitAt    time.Time
	askedAt    time.Time // when the node's labels first did not match
	// given is what the pod was admitted with, or resized to. Nil for one that was
	// not, or has ended.
	given *allocation
	// pending and progress are what is told of a resize; it is tried again at resizeAt.
	pending, progress *notice
	resizeAt          time.Time
	// replaced are the instances that were ended only to make others of them.
	replaced map[string]bool
	// terminating is when the pod was first seen to be ending; zero before.
	terminating time.Time
	// released: a finished pod's sandbox, mounts and cgroup are gone.
	// cleaned: everything of a deleted pod is gone.
	released, cleaned step
	// collected are the dead containers and sandboxes already asked to be removed.
	collected map[string]bool
	// answered are the containers that the runtime has said it can't start.
	answered map[string]bool
}

// step is something done once per pod, retried until it works.
type step struct {
	done    bool
	fails   int
	retryAt time.Time
}

// ready says whether the step may be tried now.
func (s step) ready(now time.Time) bool { return !s.done && !now.Before(s.retryAt) }

// startRecord is what is known about starting a container, whatever instance.
type startRecord struct {
	// reason and message tell why the last start failed; empty after a success.
	reason, message string
	// retryAt is when a start that failed is tried again, in the sandbox where it
	// failed if that had a part in it: in another one it is tried at once.
	retryAt time.Time
	sandbox string
	id      string // of the container that the runtime could not start
	// orphaned: the sandbox was not there any more, as at a boot; another one comes soon.
	orphaned bool
	// backoff is the pause before the next restart; bumped is when it was set.
	backoff time.Duration
	bumped  time.Time
	// image is what could not be started: another one is tried at once.
	image string
	// pullBackoff is the pause after a failed pull at pullFailed.
	pullBackoff time.Duration
	pullFailed  time.Time
}

// outcome is an end that the agent decided.
type outcome struct {
	reason, message string
	refused         bool           // it was never let in
	grace           *time.Duration // nil means the pod's own
	disruption      string         // of the condition that tells controllers; empty means none
}

// op is an action in flight.
type op struct {
	action action
	// deadline is when a kill with its grace is over.
	deadline time.Time
	cancel   func()
}

func newMemory() *memory {
	return &memory{
		starts:    map[string]*startRecord{},
		probes:    map[probeKey]*probeRecord{},
		ops:       map[string]*op{},
		collected: map[string]bool{},
		replaced:  map[string]bool{},
		answered:  map[string]bool{},
	}
}

// start returns the record of a container, making it if needed.
func (m *memory) start(name string) *startRecord {
	r := m.starts[name]
	if r == nil {
		r = &startRecord{}
		m.starts[name] = r
	}
	return r
}

// waits says whether a start of image in a sandbox must wait for the record's retryAt.
func (r *startRecord) waits(image, sandbox string, now time.Time) bool {
	return r != nil && now.Before(r.retryAt) && (r.image == "" || r.image == image) && !r.failedElsewhere(sandbox)
}

// failedElsewhere says whether the last start failed in another sandbox than this one.
func (r *startRecord) failedElsewhere(sandbox string) bool {
	return r != nil && r.sandbox != "" && r.sandbox != sandbox
}

// starting says whether a start of this container is in flight.
func (m *memory) starting(name string) bool {
	o := m.ops[opStart]
	return o != nil && o.action.container == name
}

// startFailed notes a failed start.
func (m *memory) startFailed(f *startError, a action, now time.Time) {
	r := m.start(a.container)
	if r.image != a.image {
		r.image, r.pullBackoff = a.image, 0
	}
	r.reason, r.message, r.sandbox, r.id = f.reason, startMessage(f), f.sandbox, f.id
	if f.id != "" {
		m.answered[f.id] = true
	}
	r.retryAt = now.Add(startRetry)
	r.orphaned = f.orphaned()
	switch {
	case r.orphaned:
		r.retryAt = now.Add(stepRetry)
	case noRuntime(f.err):
		r.retryAt = now.Add(runtimeRetry)
	default:
	}
	if backsOff(f.reason) {
		r.pullBackoff = nextBackoff(r.pullBackoff)
		r.pullFailed = now
		r.retryAt = now.Add(r.pullBackoff)
	}
}

// pardon takes for made and never started what could not be started in a sandbox that has
// died before another try: the sandbox was dying already, and the container has had no
// life that counts. Of a pod that is ending all stays as it was told.
func (m *memory) pardon(obs *observed) {
	if !m.terminating.IsZero() || m.status != nil && terminal(m.status.Phase) {
		return
	}
	for _, r := range m.starts {
		if s := obs.sandbox(); s == nil || !s.Ready || r.failedElsewhere(s.ID) {
			delete(m.answered, r.id)
		}
	}
}

// startSucceeded forgets failures, but not the restart back-off.
func (m *memory) startSucceeded(name string) {
	r := m.start(name)
	r.reason, r.message, r.retryAt, r.sandbox, r.id, r.orphaned = "", "", time.Time{}, "", "", false
	r.pullBackoff, r.pullFailed = 0, time.Time{}
}

// restarting sets the pause after the instance that ended at finished.
func (m *memory) restarting(name string, finished, now time.Time) {
	r := m.start(name)
	if r.bumped.IsZero() || finished.Sub(r.bumped) > backoffForget {
		r.backoff = 0
	}
	r.backoff = nextBackoff(r.backoff)
	r.bumped = now
}

// desiredChanged makes the worker try at once what failed for want of objects.
func (m *memory) desiredChanged() {
	m.volumes.retryAt = time.Time{}
	for _, r := range m.starts {
		// A pull may have failed for want of a secret.
		if r.reason == reasonConfigError || backsOff(r.reason) {
			r.retryAt = time.Time{}
		}
	}
}

// imagesChanged makes the worker try at once what failed for want of its image.
func (m *memory) imagesChanged() {
	for _, r := range m.starts {
		if lacksImage(r.reason) {
			r.retryAt = time.Time{}
		}
	}
}
