package pods

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

// worker drives one pod, by UID. One goroutine runs it; what others may touch
// is behind mu.
type worker struct {
	env  *env
	ref  PodRef
	key  string // of the pod in the store
	bell chan struct{}
	done chan result

	// The run loop's own.
	wanted   *corev1.Pod // nil until read, and for a pod only in the runtime
	pod      *corev1.Pod // wanted, with the resources that it was given
	gone     bool        // the store does not have this UID
	obs      *observed
	mem      *memory
	next     time.Time
	reported *corev1.PodStatus
	unsaved  bool      // the next agent would not know what was reported
	saveAt   time.Time // not before
	goneSaid bool
	adopted  bool // what a former agent has left was read
	// respecified: the pod has another spec than before, so that what failed may
	// work now. An echo of our own status is no reason to try again.
	respecified bool
	observeErr  bool // logged once per outage
	ops         sync.WaitGroup
	told        toldStep
	shown       func(*objectChange)

	mu      sync.Mutex // guards the following fields
	desired bool       // the store may have changed
	objects bool       // an object that the pod uses may have changed
	runtime bool       // the runtime may have changed
	images  bool       // images have come
	changes []*objectChange
	ended   bool // it will show nothing any more
	order   *End // to end the pod
	view    view
}

const (
	// resultBacklog is more than a pod has actions that end at the same time.
	resultBacklog = 8
	// observeRetry is the pause after the runtime did not answer.
	observeRetry = time.Second
)

func newWorker(e *env, ref PodRef) *worker {
	return &worker{
		env: e, ref: ref, key: "pods/" + ref.Namespace + "/" + ref.Name,
		bell: make(chan struct{}, 1), done: make(chan result, resultBacklog),
		mem: newMemory(), desired: true, runtime: true,
	}
}

// ring wakes the worker for what it says may have changed.
func (w *worker) ring(desired, objects, runtime bool) {
	w.mu.Lock()
	w.desired = w.desired || desired
	w.objects = w.objects || objects
	w.runtime = w.runtime || runtime
	w.mu.Unlock()
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

// imagesChanged wakes the worker for images that have come.
func (w *worker) imagesChanged() {
	w.mu.Lock()
	w.images = true
	w.mu.Unlock()
	w.ring(false, false, false)
}

// run works until ctx ends or nothing of a deleted pod is left. Ending ctx
// leaves the containers alone.
func (w *worker) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer w.ops.Wait()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.bell:
		case <-timer.C:
		case r := <-w.done:
			w.finish(r)
		}
		if w.step(ctx) {
			return
		}
		if w.next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(time.Until(w.next), 0))
		}
	}
}

// step reads, decides and acts once. It says whether the worker has nothing
// left to do, ever.
func (w *worker) step(ctx context.Context) bool {
	w.drain()
	w.mu.Lock()
	desired, objects, runtime, images := w.desired, w.objects, w.runtime, w.images
	w.desired, w.objects, w.runtime, w.images = false, false, false, false
	w.mu.Unlock()
	if (desired && !w.readDesired()) || ((runtime || w.obs == nil) && !w.observe(ctx)) {
		w.mu.Lock()
		w.desired, w.objects, w.runtime, w.images = w.desired || desired, w.objects || objects, w.runtime || runtime, w.images || images
		w.mu.Unlock()
		w.next = time.Now().Add(observeRetry)
		return false
	}
	w.obey()
	w.account(time.Now())
	if objects || w.respecified {
		w.respecified = false
		w.mem.desiredChanged()
	}
	if images {
		w.mem.imagesChanged()
	}
	if objects {
		w.outdate()
	}
	in := input{
		pod: w.pod, gone: w.gone, obs: w.obs, mem: w.mem,
		hostIPs: w.env.HostIP(), now: time.Now(), runtime: w.env.runtimeName,
	}
	if w.mem.began.IsZero() && w.pod != nil {
		w.mem.began = localTime(startTime(in), in.now, time.Time{})
	}
	d := decide(in)
	w.next = d.next
	if d.outcome != nil {
		w.mem.outcome = d.outcome
		w.event("", corev1.EventTypeNormal, d.outcome.reason, d.outcome.message)
	}
	if d.ending && w.mem.terminating.IsZero() {
		w.mem.terminating = time.Now()
	}
	w.leave(&d)
	w.publish(&d)
	if d.status != nil && terminal(d.status.Phase) && !d.ending {
		w.ring(false, false, false) // it has finished: let it give back what it holds
	}
	for _, k := range d.cancel {
		if o := w.mem.ops[k]; o != nil {
			o.cancel()
		}
	}
	for _, a := range d.actions {
		w.launch(ctx, a)
	}
	if w.settled() {
		w.env.starts.settle(w.ref.UID)
	}
	w.tell(&d)
	if d.gone {
		return w.sayGone()
	}
	return false
}

// drain takes all results that are there, so that one observation serves them all.
func (w *worker) drain() {
	for {
		select {
		case r := <-w.done:
			w.finish(r)
		default:
			return
		}
	}
}

// readDesired reads the pod from the store. A pod of the same name with
// another UID is another pod. It says whether the store could be read: nothing
// may be concluded from a store that cannot.
func (w *worker) readDesired() bool {
	pod, err := w.env.Objects.Pod(w.key)
	switch {
	case errors.Is(err, ErrNotFound):
		w.gone = true
	case err != nil:
		w.env.Log.Error("pod not readable", "pod", w.ref.Name, "namespace", w.ref.Namespace, "error", err)
		return false
	case pod.UID != w.ref.UID:
		w.gone = true
	default:
		// The downward API shows labels and annotations, in files and in variables.
		if old := w.pod; old == nil || !maps.Equal(old.Labels, pod.Labels) || !maps.Equal(old.Annotations, pod.Annotations) {
			w.outdate()
			w.respecified = true
		}
		w.respecified = w.respecified || w.pod == nil || w.pod.Generation != pod.Generation
		w.gone, w.wanted, w.pod = false, pod, w.env.ledger.view(pod)
	}
	return true
}

func (w *worker) observe(ctx context.Context) bool {
	obs, err := w.env.observe(ctx, w.ref.UID, w.obs)
	if err != nil {
		if !w.observeErr && ctx.Err() == nil {
			w.env.Log.Error("pod not observable", "pod", w.ref.Name, "namespace", w.ref.Namespace, "error", err)
		}
		w.observeErr = true
		return false
	}
	w.observeErr = false
	w.obs = obs
	if !w.adopted {
		w.adopted = true
		if w.mem.before = w.env.savedStatus(w.ref.UID); w.mem.before != nil {
			w.mem.adopt(w.mem.before, obs)
		}
	}
	w.mem.pardon(obs)
	obs.unbegun(w.mem.answered, w.mem.before)
	for k := range w.mem.probes {
		if obs.find(k.id) == nil {
			delete(w.mem.probes, k)
		}
	}
	for _, ids := range []map[string]bool{w.mem.collected, w.mem.answered, w.mem.replaced} {
		for id := range ids {
			if obs.find(id) == nil {
				delete(ids, id)
			}
		}
	}
	return true
}

// outdate says that what volumes show may have changed; those that are just being
// made may have been read before it did.
func (w *worker) outdate() {
	if (w.mem.volumes.done || w.acts(actSetUpVolumes)) && w.follows() {
		w.mem.volumesStale = true
	}
}

// follows says whether a volume of the pod shows objects that may have changed.
func (w *worker) follows() bool {
	if w.pod == nil {
		return false
	}
	for i := range w.pod.Spec.Volumes {
		if volumes.Follows(&w.pod.Spec.Volumes[i]) {
			return true
		}
	}
	return false
}

// launch does an action beside the worker.
func (w *worker) launch(ctx context.Context, a action) {
	now := time.Now()
	opCtx, cancel := context.WithCancel(ctx)
	o := &op{action: a, cancel: cancel}
	switch a.kind {
	case actKill:
		o.deadline = now.Add(a.grace)
		if a.replace {
			w.mem.replaced[a.id] = true
		}
	case actStart:
		if !a.finished.IsZero() {
			w.mem.restarting(a.container, a.finished, now)
		}
	case actProbe:
		k := probeKey{a.id, a.probe}
		if w.mem.probes[k] == nil {
			w.mem.probes[k] = &probeRecord{}
		}
		w.mem.probes[k].last = now
	case actCollect:
		w.mem.collected[a.id] = true
	case actRefreshVolumes:
		w.mem.volumesStale = false
	default:
	}
	w.mem.ops[a.key()] = o
	s := &snapshot{ref: w.ref, pod: w.pod, obs: w.obs}
	w.ops.Go(func() {
		defer cancel()
		r := w.env.perform(opCtx, s, a)
		select {
		case w.done <- r:
		case <-ctx.Done():
		}
	})
}
