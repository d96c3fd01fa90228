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
	// terminating is when the pod was first seen to be ending; zero before.
	terminating time.Time
	// released: a finished pod's sandbox, mounts and cgroup are gone.
	// cleaned: everything of a deleted pod is gone.
	released, cleaned step
	// collected are the dead containers and sandboxes already asked to be removed.
	collected map[string]bool
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
	// retryAt is when a start that failed is tried again.
	retryAt time.Time
	// backoff is the pause before the next restart; bumped is when it was set.
	backoff time.Duration
	bumped  time.Time
	// pullBackoff is the pause after a failed pull at pullFailed.
	pullBackoff time.Duration
	pullFailed  time.Time
}

// outcome is an end that the agent decided.
type outcome struct{ reason, message string }

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

// starting says whether a start of this container is in flight.
func (m *memory) starting(name string) bool {
	o := m.ops[opStart]
	return o != nil && o.action.container == name
}

// startFailed notes a failed start.
func (m *memory) startFailed(f *startError, name string, now time.Time) {
	r := m.start(name)
	r.reason, r.message = f.reason, startMessage(f)
	r.retryAt = now.Add(startRetry)
	if f.reason == reasonErrImagePull {
		r.pullBackoff = nextBackoff(r.pullBackoff)
		r.pullFailed = now
		r.retryAt = now.Add(r.pullBackoff)
	}
}

// startSucceeded forgets failures, but not the restart back-off.
func (m *memory) startSucceeded(name string) {
	r := m.start(name)
	r.reason, r.message, r.retryAt = "", "", time.Time{}
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
		if r.reason == reasonConfigError {
			r.retryAt = time.Time{}
		}
	}
}
