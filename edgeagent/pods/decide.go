package pods

import (
	"cmp"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// actionKind is something a worker can do.
type actionKind int

const (
	actSetUpVolumes actionKind = iota
	actRefreshVolumes
	actRunSandbox
	actStart
	actKill
	actCollect // remove a dead container or sandbox that nobody needs
	actProbe
	actResize  // of containers that run, and of the pod's control group
	actRelease // of a pod that has finished: sandbox, mounts, cgroup
	actCleanUp // of a pod that is deleted: everything
)

// The keys under which actions are in flight, at most one each. Kills,
// collections and probes have a key per subject.
const (
	opVolumes = "volumes"
	opSandbox = "sandbox"
	opStart   = "start"
	opResize  = "resize"
	opEnd     = "end"
)

// action is one step for the worker to do. It is comparable, for tests.
type action struct {
	kind      actionKind
	container string // name, for start, kill and probe
	image     string // of the container to start
	id        string // of the container or sandbox, for kill, collect and probe
	attempt   uint32 // of the sandbox to run
	restarts  int32  // of the container to start
	finished  time.Time
	grace     time.Duration
	probe     probeKind
	message   string // why it is killed
	sandbox   bool   // collect a sandbox, not a container
	replace   bool   // kill only to make another of it
}

// key says which other action this one excludes.
func (a action) key() string {
	switch a.kind {
	case actSetUpVolumes, actRefreshVolumes:
		return opVolumes
	case actRunSandbox:
		return opSandbox
	case actStart:
		return opStart
	case actKill:
		return "kill/" + a.id
	case actCollect:
		return "collect/" + a.id
	case actProbe:
		return "probe/" + a.id + "/" + a.probe.String()
	case actResize:
		return opResize
	default:
		return opEnd
	}
}

// input is all that a decision depends on.
type input struct {
	// pod is the desired pod, or the last one known. Nil for a pod that is only
	// in the runtime.
	pod *corev1.Pod
	// gone says that the store no longer has the pod.
	gone bool
	obs  *observed
	mem  *memory // read only
	// hostIPs and the time are the world's.
	hostIPs []string
	now     time.Time
	// runtime is its name, the scheme of container ids.
	runtime string
}

// decision is what to do.
type decision struct {
	actions []action
	// cancel are the keys of actions in flight that make no sense any more.
	cancel []string
	// status is nil for a pod that is only in the runtime.
	status *corev1.PodStatus
	// outcome is set when the agent ends the pod now.
	outcome *outcome
	// next is when to look again even if nothing happens; zero means never.
	next time.Time
	// ending says that the pod is terminating or has finished.
	ending bool
	// gone says that nothing of a deleted pod is left.
	gone bool
}

// decide is the heart: desired and observed in, actions and status out. It has
// no effects and reads no clock.
func decide(in input) decision {
	d := &decider{input: in}
	switch {
	case d.deleting():
		d.ending = true
		d.terminate()
		d.cleanUp()
	case d.finished():
		d.ending = true
		d.terminate()
		d.release()
		d.collect()
	default:
		d.deadline()
		if d.decision.outcome != nil {
			d.ending = true
			d.terminate()
			break
		}
		if d.ranToEnd() {
			d.ending = true
			d.terminate()
			d.release()
			break
		}
		d.sync()
	}
	if in.pod != nil {
		d.decideProbes()
		d.decision.status = status(in, d.decision.outcome)
	}
	return d.decision
}

type decider struct {
	input
	decision
}

// do adds an action unless one with its key is in flight or chosen already.
func (d *decider) do(a action) {
	k := a.key()
	if d.mem.ops[k] != nil {
		return
	}
	for _, b := range d.actions {
		if b.key() == k {
			return
		}
	}
	d.actions = append(d.actions, a)
}

// again makes the worker look at t.
func (d *decider) again(t time.Time) {
	if !t.After(d.now) {
		t = d.now.Add(time.Second) // never spin
	}
	if d.next.IsZero() || t.Before(d.next) {
		d.next = t
	}
}

func (d *decider) deleting() bool { return d.gone() || d.pod.DeletionTimestamp != nil }

func (d *decider) gone() bool { return d.input.gone || d.pod == nil }

// finished says whether the pod has ended by itself, or by the agent, and must
// not start anything any more.
func (d *decider) finished() bool {
	if d.mem.outcome != nil {
		return true
	}
	return lastPhase(d.input) == corev1.PodSucceeded || lastPhase(d.input) == corev1.PodFailed
}

// ranToEnd says whether the containers that a new agent finds are those of a
// pod that has finished. What the pod needed, its ConfigMaps and Secrets, may be
// gone by now.
func (d *decider) ranToEnd() bool {
	return d.mem.status == nil && !d.mem.volumes.done && len(d.obs.containers) > 0 && terminal(status(d.input, nil).Phase)
}

// lastPhase is terminal if either the agent or the API has seen it so: a pod
// never leaves a terminal phase.
func lastPhase(in input) corev1.PodPhase {
	for _, s := range []*corev1.PodStatus{in.mem.status, in.mem.before} {
		if s != nil && terminal(s.Phase) {
			return s.Phase
		}
	}
	return in.pod.Status.Phase
}

func terminal(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

// deadline ends a pod that is older than its activeDeadlineSeconds.
func (d *decider) deadline() {
	limit := d.pod.Spec.ActiveDeadlineSeconds
	if limit == nil {
		return
	}
	began := cmp.Or(d.mem.began, startTime(d.input))
	end := began.Add(time.Duration(*limit) * time.Second)
	if d.now.Before(end) {
		d.again(end)
		return
	}
	d.decision.outcome = &outcome{
		reason:  "DeadlineExceeded",
		message: "Pod was active on the node longer than the specified deadline",
	}
}

// startTime is when this node took the pod. Where a former agent's status was
// lost, the oldest sandbox tells.
func startTime(in input) time.Time {
	switch {
	case in.mem.status != nil && in.mem.status.StartTime != nil:
		return in.mem.status.StartTime.Time
	case in.mem.before != nil && in.mem.before.StartTime != nil:
		return in.mem.before.StartTime.Time
	case in.pod != nil && in.pod.Status.StartTime != nil:
		return in.pod.Status.StartTime.Time
	case len(in.obs.sandboxes) > 0:
		return in.obs.sandboxes[len(in.obs.sandboxes)-1].CreatedAt
	default:
		return in.now
	}
}

// sync brings a living pod one step nearer to its spec.
func (d *decider) sync() {
	if d.mem.unadmitted {
		d.again(d.mem.admitAt)
		return
	}
	if !d.mem.volumes.done {
		if d.mem.volumes.ready(d.now) {
			d.do(action{kind: actSetUpVolumes})
		} else {
			d.again(d.mem.volumes.retryAt)
		}
		return
	}
	if d.mem.volumesStale {
		if d.now.Before(d.mem.volumes.retryAt) {
			d.again(d.mem.volumes.retryAt)
		} else {
			d.do(action{kind: actRefreshVolumes})
		}
	}
	if d.mem.ops[opSandbox] != nil {
		return
	}
	if needs, attempt, _ := sandboxNeeded(d.pod, d.obs); needs {
		d.newSandbox(attempt)
		return
	}
	d.resize()
	d.startEphemeral()
	if d.initialize() {
		d.runApps()
	}
	d.collect()
}

// sandboxNeeded says whether the pod needs a new sandbox, its attempt number,
// and why the present one is not enough.
func sandboxNeeded(pod *corev1.Pod, obs *observed) (needs bool, attempt uint32, why string) {
	s := obs.sandbox()
	if s == nil {
		return true, 0, "No pod sandbox found"
	}
	ready := 0
	for i := range obs.sandboxes {
		if obs.sandboxes[i].Ready {
			ready++
		}
	}
	switch {
	case ready > 1:
		return true, s.Attempt + 1, "Multiple pod sandboxes found"
	case !s.Ready:
		return true, s.Attempt + 1, "Pod sandbox is not ready"
	case !pod.Spec.HostNetwork && len(obs.ips) == 0:
		return true, s.Attempt + 1, "Pod sandbox has no IP address"
	default:
		return false, s.Attempt, ""
	}
}

// newSandbox runs a (new) sandbox if anything is left to run in it.
func (d *decider) newSandbox(attempt uint32) {
	if attempt != 0 && len(d.obs.containers) > 0 && !d.worthRestarting() {
		// All is done but the phase: the sandbox went first.
		d.killRunning("Pod sandbox changed, it will be killed.")
		return
	}
	if d.mem.sandbox.ready(d.now) {
		d.do(action{kind: actRunSandbox, attempt: attempt, grace: d.grace()})
		return
	}
	d.again(d.mem.sandbox.retryAt)
}

// worthRestarting says whether a pod that lost its sandbox has anything to run.
func (d *decider) worthRestarting() bool {
	created, may := false, false
	for i := range d.pod.Spec.Containers {
		c := &d.pod.Spec.Containers[i]
		have := d.obs.newest(c.Name)
		created = created || have != nil
		if !mayRestart(d.pod, c) {
			continue
		}
		may = true
		if have == nil || have.state != cri.StateExited || restartAfter(d.pod, c, have.exitCode) {
			return true
		}
	}
	// All have ended well; if none was ever made, initialization is not over.
	return may && !created
}

// killRunning kills all that runs, in no order.
func (d *decider) killRunning(why string) {
	for i := range d.obs.containers {
		c := &d.obs.containers[i]
		if c.alive() {
			d.do(action{kind: actKill, container: c.name, id: c.id, grace: d.grace(), message: why})
		}
	}
}

// grace is how long the pod's containers may take to stop.
func (d *decider) grace() time.Duration {
	own := d.ownGrace()
	if o := d.mem.outcome; o != nil && o.grace != nil {
		return min(*o.grace, own)
	}
	return own
}

func (d *decider) ownGrace() time.Duration {
	switch {
	case d.pod == nil:
		return defaultGrace
	case d.pod.DeletionTimestamp != nil && d.pod.DeletionGracePeriodSeconds != nil:
		// Zero means a forced deletion: the kubelet gives one second even then.
		return max(time.Duration(*d.pod.DeletionGracePeriodSeconds)*time.Second, time.Second)
	case d.pod.Spec.TerminationGracePeriodSeconds != nil:
		return time.Duration(*d.pod.Spec.TerminationGracePeriodSeconds) * time.Second
	default:
		return defaultGrace
	}
}
