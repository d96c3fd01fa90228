package pods

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// startEphemeral starts the ephemeral containers that have not run yet. They
// need no initialized pod and are never restarted.
func (d *decider) startEphemeral() {
	for i := range d.pod.Spec.EphemeralContainers {
		e := &d.pod.Spec.EphemeralContainers[i]
		if d.obs.newest(e.Name) == nil {
			d.start(e.Name, nil)
		}
	}
}

// initialize runs the init containers in order and keeps the restartable ones
// running. It says whether the app containers may run.
//
// It looks from the last to the first: a completed init container may have been
// removed from the runtime, so the last one that is known tells how far the pod is.
func (d *decider) initialize() bool {
	inits := d.pod.Spec.InitContainers
	if len(inits) == 0 {
		return true
	}
	// An app container in this sandbox proves that initialization was complete.
	initialized := d.anyAppStarted()
	past := initialized // the container at i has been passed before
	var start []int
	for i := len(inits) - 1; i >= 0; i-- {
		c := &inits[i]
		have := d.obs.active(c.Name)
		if have == nil {
			if past && sidecar(c) {
				start = append(start, i)
			}
			continue
		}
		if past && !sidecar(c) {
			continue
		}
		done, restart, failed := d.initState(c, have)
		if failed {
			d.killRunning(fmt.Sprintf("Init container %s failed", c.Name))
			return false
		}
		if done {
			if i == len(inits)-1 {
				initialized = true
			} else if !past {
				start = append(start, i+1)
			}
		}
		if restart {
			start = append(start, i)
		}
		past = true
	}
	if !past {
		start = append(start, 0)
	}
	for _, s := range slices.Backward(start) {
		c := &inits[s]
		d.start(c.Name, d.obs.newest(c.Name))
	}
	return initialized
}

// initState says whether an init container has done its part, whether it must
// be started (again), and whether it has failed for good.
func (d *decider) initState(c *corev1.Container, have *container) (done, restart, failed bool) {
	switch have.state {
	case cri.StateCreated:
		return false, !d.mem.starting(c.Name), false
	case cri.StateRunning:
		if !sidecar(c) {
			return false, false, false
		}
		if d.killUnwanted(c, have) {
			return false, false, false
		}
		return d.started(c, have) && !d.mem.starting(c.Name), false, false
	case cri.StateExited:
		if sidecar(c) {
			return false, true, false
		}
		if have.exitCode == 0 {
			return true, false, false
		}
		if restartAfter(d.pod, c, have.exitCode) {
			return false, true, false
		}
		return false, false, true
	default: // unknown: it may still run, so end it before anything else
		if !sidecar(c) && d.pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
			return false, false, true
		}
		d.do(action{
			kind: actKill, container: c.Name, id: have.id, grace: d.grace(),
			message: "Init container is in \"unknown\" state, try killing it before restart",
		})
		return false, false, false
	}
}

// anyAppStarted says whether an app container was started in this sandbox.
func (d *decider) anyAppStarted() bool {
	for i := range d.pod.Spec.Containers {
		if c := d.obs.active(d.pod.Spec.Containers[i].Name); c != nil && c.state != cri.StateCreated {
			return true
		}
	}
	return false
}

// runApps starts and replaces app containers, and stops the restartable init
// containers when no app container will run again.
func (d *decider) runApps() {
	keep := false
	for i := range d.pod.Spec.Containers {
		c := &d.pod.Spec.Containers[i]
		have := d.obs.newest(c.Name)
		if have != nil && have.state == cri.StateRunning {
			if !d.killUnwanted(c, have) || d.restartsAfterKill(c, have) {
				keep = true
			}
			continue
		}
		if !d.mem.shouldRestart(d.pod, c, have) {
			continue
		}
		keep = true
		if have != nil && have.state == cri.StateUnknown {
			d.do(action{
				kind: actKill, container: c.Name, id: have.id, grace: d.grace(),
				message: "Container is in \"unknown\" state, try killing it before restart",
			})
			continue
		}
		if have != nil && have.state == cri.StateCreated && d.mem.starting(c.Name) {
			continue
		}
		d.start(c.Name, have)
	}
	if !keep {
		d.stopSidecars()
		// What initialize wanted to start again would only keep the pod alive.
		d.dropStarts()
	}
}

// killUnwanted kills a running container whose definition has changed or whose
// probe has failed, and says whether it did.
func (d *decider) killUnwanted(c *corev1.Container, have *container) bool {
	_, resize := d.mem.differs(d.pod, c, have)
	switch {
	case resize:
		d.do(action{
			kind: actKill, container: c.Name, id: have.id, grace: d.grace(), replace: true,
			message: fmt.Sprintf("Container %s resize requires restart", c.Name),
		})
		return true
	case have.hashed && have.hash != containerHash(c):
		d.do(action{
			kind: actKill, container: c.Name, id: have.id, grace: d.grace(), replace: true,
			message: fmt.Sprintf("Container %s definition changed, will be restarted", c.Name),
		})
		return true
	case d.probeFailed(have.id, probeLiveness):
		d.killProbed(c, have, c.LivenessProbe, "liveness")
		return true
	case d.probeFailed(have.id, probeStartup):
		d.killProbed(c, have, c.StartupProbe, "startup")
		return true
	default:
		return false
	}
}

func (d *decider) killProbed(c *corev1.Container, have *container, p *corev1.Probe, what string) {
	grace := d.grace()
	if p != nil && p.TerminationGracePeriodSeconds != nil {
		grace = seconds(*p.TerminationGracePeriodSeconds)
	}
	msg := fmt.Sprintf("Container %s failed %s probe", c.Name, what)
	if d.restartsAfterKill(c, have) {
		msg += ", will be restarted"
	}
	d.do(action{kind: actKill, container: c.Name, id: have.id, grace: grace, message: msg})
}

// restartsAfterKill says whether a container that is killed now comes back.
func (d *decider) restartsAfterKill(c *corev1.Container, have *container) bool {
	if have.hashed && have.hash != containerHash(c) || d.mem.replaced[have.id] {
		return true
	}
	if _, resize := d.mem.differs(d.pod, c, have); resize {
		return true
	}
	return restartAfter(d.pod, c, killedExit)
}

// killedExit is the exit code of a process that SIGKILL ended.
const killedExit = 137

// start starts a container if its back-off is over. Containers start one after
// another, in the order of the spec: a postStart hook delays those after it.
func (d *decider) start(name string, have *container) {
	a := action{kind: actStart, container: name}
	if c := findContainer(d.pod, name); c != nil {
		a.image = c.Image
	}
	rec := d.mem.starts[name]
	sandbox := ""
	if s := d.obs.sandbox(); s != nil {
		sandbox = s.ID
	}
	if rec.waits(a.image, sandbox, d.now) {
		d.again(rec.retryAt)
		if shown := rec.pullFailed.Add(errImagePullShownFirst); backsOff(rec.reason) && d.now.Before(shown) {
			d.again(shown) // when the status becomes another
		}
		return
	}
	if d.sizing() {
		return // the end of that wakes us
	}
	if have != nil {
		a.restarts = have.restarts + 1
		if have.state == cri.StateCreated {
			// Made and never started, by an agent that died in between. It has no
			// life to count.
			a.id, a.restarts = have.id, have.restarts
		}
		// The pause after the instance's end was kept before the start that failed.
		if have.state == cri.StateExited && !d.mem.replaced[have.id] && !rec.failedElsewhere(sandbox) {
			until := rec.backoffUntil(have.end())
			if d.now.Before(until) {
				d.again(until)
				return
			}
			a.finished = have.end()
		}
	}
	if d.mem.ops["kill/"+a.id] != nil && a.id != "" {
		return
	}
	d.do(a)
}

func (d *decider) dropStarts() {
	kept := d.actions[:0]
	for _, a := range d.actions {
		if a.kind != actStart || d.ephemeral(a.container) {
			kept = append(kept, a)
		}
	}
	d.actions = kept
}

func (d *decider) ephemeral(name string) bool {
	for i := range d.pod.Spec.EphemeralContainers {
		if d.pod.Spec.EphemeralContainers[i].Name == name {
			return true
		}
	}
	return false
}

// collect removes dead instances: per container the newest dead one is kept, for
// logs and lastState, as by the kubelet. One that could not be started does not take its
// place at once: it may turn out not to count. A sandbox is removed with its last one.
func (d *decider) collect() {
	newest := map[string]bool{} // the container's newest instance was met
	kept := map[string]bool{}   // and its newest dead one
	used := map[string]bool{}
	for i := range d.obs.containers {
		c := &d.obs.containers[i]
		first := !newest[c.name]
		newest[c.name] = true
		// One that was only made is about to be started, or made again.
		dead := c.state == cri.StateExited || c.state == cri.StateCreated && !first
		if dead && kept[c.name] {
			d.collectOne(action{kind: actCollect, id: c.id, container: c.name})
			continue
		}
		kept[c.name] = kept[c.name] || dead && (!first || !neverRan(c.state, c.started))
		used[c.sandboxID] = true
	}
	for i := range d.obs.sandboxes {
		s := &d.obs.sandboxes[i]
		if i > 0 && !s.Ready && !used[s.ID] {
			d.collectOne(action{kind: actCollect, id: s.ID, sandbox: true})
		}
	}
}

func (d *decider) collectOne(a action) {
	if !d.mem.collected[a.id] {
		d.do(a)
	}
}
