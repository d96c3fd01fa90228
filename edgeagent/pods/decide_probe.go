package pods

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/probe"
)

// probeKind is what a probe decides.
type probeKind int

const (
	probeLiveness probeKind = iota
	probeReadiness
	probeStartup
)

// String is the word in events, capitalized as the kubelet has it.
func (k probeKind) String() string {
	switch k {
	case probeReadiness:
		return "Readiness"
	case probeStartup:
		return "Startup"
	default:
		return "Liveness"
	}
}

// probeKey names a probe of one container instance.
type probeKey struct {
	id   string
	kind probeKind
}

// probeRecord is the state of a probe between its runs.
type probeRecord struct {
	last   time.Time // start of the last run
	result probe.Result
	run    int32 // results equal to result in a row
	// passed and failed are the verdicts, once a threshold was reached. Neither
	// holds before.
	passed, failed bool
}

// count adds a result.
func (r *probeRecord) count(res probe.Result, spec *corev1.Probe) {
	if res == probe.Unknown {
		return
	}
	if res == r.result {
		r.run++
	} else {
		r.result, r.run = res, 1
	}
	switch {
	case res == probe.Success && r.run >= max(spec.SuccessThreshold, 1):
		r.passed, r.failed = true, false
	case res == probe.Failure && r.run >= max(spec.FailureThreshold, 1):
		r.passed, r.failed = false, true
	}
}

const defaultProbePeriod = 10 * time.Second

// decideProbes runs the probes that are due. A pod that is ending has only its
// readiness watched.
func (d *decider) decideProbes() {
	for i := range d.pod.Spec.InitContainers {
		if c := &d.pod.Spec.InitContainers[i]; sidecar(c) {
			d.probeContainer(c)
		}
	}
	for i := range d.pod.Spec.Containers {
		d.probeContainer(&d.pod.Spec.Containers[i])
	}
}

func (d *decider) probeContainer(c *corev1.Container) {
	have := d.obs.active(c.Name)
	if have == nil || have.state != cri.StateRunning || d.mem.starting(c.Name) || d.mem.ops["kill/"+have.id] != nil {
		return
	}
	started := d.started(c, have)
	if !started && !d.ending {
		d.probe(c, have, c.StartupProbe, probeStartup)
		return // the others begin when it has passed
	}
	if !d.ending {
		d.probe(c, have, c.LivenessProbe, probeLiveness)
	}
	if started {
		d.probe(c, have, c.ReadinessProbe, probeReadiness)
	}
}

func (d *decider) probe(c *corev1.Container, have *container, spec *corev1.Probe, kind probeKind) {
	if spec == nil {
		return
	}
	due := have.begin().Add(seconds(int64(spec.InitialDelaySeconds)))
	if r := d.mem.probes[probeKey{have.id, kind}]; r != nil && !r.last.IsZero() {
		if r.failed && kind != probeReadiness {
			return // its container is to be killed
		}
		period := seconds(int64(spec.PeriodSeconds))
		if period <= 0 {
			period = defaultProbePeriod
		}
		due = r.last.Add(period)
	}
	if d.now.Before(due) {
		d.again(due)
		return
	}
	d.do(action{kind: actProbe, container: c.Name, id: have.id, probe: kind})
}

// probeOf returns the container's probe of a kind, nil if it has none.
func probeOf(c *corev1.Container, k probeKind) *corev1.Probe {
	switch k {
	case probeReadiness:
		return c.ReadinessProbe
	case probeStartup:
		return c.StartupProbe
	default:
		return c.LivenessProbe
	}
}

func (d *decider) probeFailed(id string, kind probeKind) bool {
	r := d.mem.probes[probeKey{id, kind}]
	return r != nil && r.failed
}
