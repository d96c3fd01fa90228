package pods

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// minGrace is what a container has left to stop even when hooks or other
// containers have used up the pod's grace period, or there was none.
const minGrace = 2 * time.Second

// terminate stops all containers: apps, plain init and ephemeral containers at
// once, then the restartable init containers, last first.
func (d *decider) terminate() {
	for _, k := range []string{opVolumes, opSandbox, opStart} {
		if d.mem.ops[k] != nil {
			d.cancel = append(d.cancel, k)
		}
	}
	waiting := false
	for i := range d.obs.containers {
		c := &d.obs.containers[i]
		if c.alive() && d.sidecarIndex(c.name) < 0 {
			d.end(c)
			waiting = true
		}
	}
	if !waiting {
		d.stopSidecars()
	}
}

// stopSidecars kills the last restartable init container that runs; the one
// before it follows when it has ended.
func (d *decider) stopSidecars() {
	if d.pod == nil {
		return
	}
	for i := len(d.pod.Spec.InitContainers) - 1; i >= 0; i-- {
		c := &d.pod.Spec.InitContainers[i]
		if !sidecar(c) {
			continue
		}
		if have := d.obs.newest(c.Name); have != nil && have.alive() {
			d.end(have)
			return
		}
	}
}

func (d *decider) sidecarIndex(name string) int {
	if d.pod == nil {
		return -1
	}
	for i := range d.pod.Spec.InitContainers {
		if c := &d.pod.Spec.InitContainers[i]; c.Name == name && sidecar(c) {
			return i
		}
	}
	return -1
}

// end kills a container within what is left of the pod's grace period. A kill
// in flight is overtaken when the grace period has been shortened since.
func (d *decider) end(c *container) {
	grace := d.grace()
	if d.pod == nil {
		grace = c.grace
	}
	since := d.mem.terminating
	if since.IsZero() {
		since = d.now
	}
	forced := grace <= time.Second
	left := max(since.Add(grace).Sub(d.now), minGrace)
	if forced {
		left = grace
	}
	a := action{kind: actKill, container: c.name, id: c.id, grace: left, message: "Stopping container " + c.name}
	if o := d.mem.ops[a.key()]; o != nil && o.deadline.After(d.now.Add(left+time.Second)) {
		d.cancel = append(d.cancel, a.key())
		d.again(d.now)
		return
	}
	d.do(a)
}

// quiet says that nothing runs and nothing is being done, so that the pod's
// things may be taken away.
func (d *decider) quiet() bool {
	if d.obs.running() {
		return false
	}
	for k, o := range d.mem.ops {
		if k != opEnd && o.action.kind != actProbe && o.action.kind != actCollect {
			return false
		}
	}
	return true
}

// release gives back what a finished pod no longer needs. Its containers stay,
// for their logs and exit codes.
func (d *decider) release() {
	if !d.quiet() || d.mem.released.done {
		return
	}
	if !d.mem.released.ready(d.now) {
		d.again(d.mem.released.retryAt)
		return
	}
	d.do(action{kind: actRelease})
}

// cleanUp takes away everything of a deleted pod.
func (d *decider) cleanUp() {
	if !d.quiet() {
		return
	}
	if d.mem.cleaned.done {
		d.decision.gone = len(d.obs.containers) == 0 && len(d.obs.sandboxes) == 0
		if !d.decision.gone {
			d.do(action{kind: actCleanUp}) // something came back
		}
		return
	}
	if !d.mem.cleaned.ready(d.now) {
		d.again(d.mem.cleaned.retryAt)
		return
	}
	d.do(action{kind: actCleanUp})
}

// started says whether a running container has passed its startup probe.
func (d *decider) started(c *corev1.Container, have *container) bool {
	return hasStarted(d.mem, c, have)
}

func hasStarted(mem *memory, c *corev1.Container, have *container) bool {
	if have.state != cri.StateRunning {
		return false
	}
	if c.StartupProbe == nil {
		return true
	}
	r := mem.probes[probeKey{have.id, probeStartup}]
	return r != nil && r.passed
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }
