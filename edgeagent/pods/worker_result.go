package pods

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/pods/probe"
	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

// unsupportedRetry is long: a volume that this node cannot provide today it
// will hardly provide in a second. Only a new agent changes that.
const unsupportedRetry = 10 * time.Minute

// finish notes what became of an action and forgets it. All but probes may have
// changed the runtime, so the worker looks again.
func (w *worker) finish(r result) {
	delete(w.mem.ops, r.action.key())
	now := time.Now()
	if r.action.kind == actProbe {
		w.probed(r)
		return
	}
	if r.action.kind != actRefreshVolumes && r.action.kind != actSetUpVolumes {
		w.mu.Lock()
		w.runtime = true
		w.mu.Unlock()
	}
	if errors.Is(r.err, context.Canceled) {
		// We ended it ourselves, to do something else.
		return
	}
	if f, ok := errors.AsType[*startError](r.err); r.err != nil && (!ok || !f.orphaned()) {
		w.env.starts.settle(w.ref.UID) // nobody waits for what fails
	}
	switch r.action.kind {
	case actSetUpVolumes, actRefreshVolumes:
		w.volumesDone(r, now)
	case actRunSandbox:
		w.mem.sandbox.record(r.err, now)
		w.mem.sandbox.done = false // whether there is one, the runtime knows
		if r.err != nil {
			w.event("", corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: "+r.err.Error())
		}
	case actStart:
		w.startDone(r, now)
	case actKill:
		if r.err != nil {
			w.event(r.action.container, corev1.EventTypeWarning, "FailedKillPod", "error killing pod: "+r.err.Error())
			w.env.Log.Warn("container not stopped", "pod", w.ref.Name, "namespace", w.ref.Namespace, "container", r.action.container, "error", r.err)
		}
	case actCollect:
		if r.err != nil {
			delete(w.mem.collected, r.action.id)
			w.env.Log.Warn("dead container not removed", "pod", w.ref.Name, "namespace", w.ref.Namespace, "id", r.action.id, "error", r.err)
		}
	case actResize:
		w.resizeDone(r, now)
	case actRelease:
		w.endDone(&w.mem.released, r, now)
	case actCleanUp:
		w.endDone(&w.mem.cleaned, r, now)
	default: // probes were dealt with above
	}
}

func (w *worker) endDone(s *step, r result, now time.Time) {
	s.record(r.err, now)
	if r.err != nil {
		w.env.Log.Warn("pod not cleaned up", "pod", w.ref.Name, "namespace", w.ref.Namespace, "error", r.err)
	}
}

// record notes a success, or a failure with a growing pause.
func (s *step) record(err error, now time.Time) {
	if err == nil {
		*s = step{done: true}
		return
	}
	s.done = false
	longest := stepRetryMax
	if noRuntime(err) {
		longest = runtimeRetry
	}
	s.retryAt = now.Add(min(stepRetry<<min(s.fails, 10), longest))
	s.fails++
}

// quietFails is how often a volume may lack what is on its way before that is
// told: with the pauses of stepRetry, some seconds.
const quietFails = 3

func (w *worker) volumesDone(r result, now time.Time) {
	if r.err == nil {
		w.mem.volumes = step{done: true}
		return
	}
	// What is on its way is worth a warning only when it stays away.
	if !errors.Is(r.err, volumes.ErrNotYet) || w.mem.volumes.fails >= quietFails {
		w.event("", corev1.EventTypeWarning, "FailedMount", r.err.Error())
	}
	was := w.mem.volumes.done
	w.mem.volumes.record(r.err, now)
	if was {
		// A refresh that failed: what is mounted stays, and is refreshed later.
		w.mem.volumes.done, w.mem.volumesStale = true, true
	}
	if _, ok := errors.AsType[*volumes.UnsupportedError](r.err); ok {
		w.mem.volumes.retryAt = now.Add(unsupportedRetry)
	}
}

func (w *worker) startDone(r result, now time.Time) {
	name := r.action.container
	if r.err == nil {
		w.mem.startSucceeded(name)
		return
	}
	var f *startError
	if !errors.As(r.err, &f) {
		f = fail(reasonCreateError, "Failed", r.err)
	}
	w.mem.startFailed(f, r.action, now)
	w.event(name, corev1.EventTypeWarning, f.event, cmp.Or(f.told, startMessage(f)))
	if lacksImage(f.reason) || f.reason == reasonImageName {
		w.event(name, corev1.EventTypeWarning, "Failed", "Error: "+f.reason)
	}
	w.env.Log.Info("container not started", "pod", w.ref.Name, "namespace", w.ref.Namespace,
		"container", name, "reason", f.reason, "error", f.err)
}

func (w *worker) probed(r result) {
	rec := w.mem.probes[probeKey{r.action.id, r.action.probe}]
	c := findContainer(w.pod, r.action.container)
	if rec == nil || c == nil {
		return
	}
	spec := probeOf(c, r.action.probe)
	if spec == nil {
		return
	}
	rec.count(r.probe, spec)
	w.env.probes.note(w.ref, c.Name, r.action.probe, r.probe)
	switch r.probe {
	case probe.Failure:
		w.event(c.Name, corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe failed: %s", r.action.probe, r.text))
	case probe.Unknown:
		w.event(c.Name, corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe errored: %s", r.action.probe, r.text))
	default:
	}
}

// backOffEvents tells once per pause that a container waits.
func (w *worker) backOffEvents(s *corev1.PodStatus) {
	if w.mem.status == nil {
		return
	}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			now := list[i].State.Waiting
			if now == nil {
				continue
			}
			if p := previousStatus(w.mem.status, list[i].Name); p != nil && p.State.Waiting != nil && p.State.Waiting.Reason == now.Reason {
				continue
			}
			switch now.Reason {
			case reasonCrashLoop:
				w.event(list[i].Name, corev1.EventTypeWarning, "BackOff",
					fmt.Sprintf("Back-off restarting failed container %s in pod %s", list[i].Name, podName(w.pod)))
			case reasonImageBackOff:
				w.event(list[i].Name, corev1.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", list[i].Image))
				w.event(list[i].Name, corev1.EventTypeWarning, "Failed", "Error: "+reasonImageBackOff)
			}
		}
	}
}
