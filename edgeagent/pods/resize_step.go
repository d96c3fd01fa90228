package pods

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// resize asks for the resources that the pod says now, and tells what came of it.
func (w *worker) resize(now time.Time) {
	before, had := w.mem.pending, w.mem.pending != nil
	r, err := w.env.ledger.resize(w.wanted, w.unsized(), now)
	w.kept(err)
	switch {
	case r.waits != nil:
		n := &notice{reason: corev1.PodReasonDeferred, message: r.waits.Message, generation: w.wanted.Generation}
		w.mem.pending = n
		if !had || before.reason != n.reason || before.generation != n.generation {
			w.event("", corev1.EventTypeWarning, eventResizeDeferred, resizeText("Pod resize "+n.reason, w.wanted, n.generation, n.message))
		}
		return
	case r.granted:
		w.mem.progress, w.mem.resizeAt = &notice{generation: w.wanted.Generation}, time.Time{}
		w.event("", corev1.EventTypeNormal, eventResizeStarted, resizeText("Pod resize started", w.wanted, w.wanted.Generation, ""))
		w.pod = w.env.ledger.view(w.wanted)
		w.mem.given = w.env.ledger.given(w.ref.UID)
	}
	w.mem.pending = nil
	switch {
	case resizing(w.pod, w.obs, w.mem):
		if w.mem.progress == nil {
			w.mem.progress = &notice{generation: w.pod.Generation}
		}
	case w.mem.progress != nil:
		w.event("", corev1.EventTypeNormal, eventResizeCompleted, resizeText("Pod resize completed", w.pod, w.mem.progress.generation, ""))
		w.mem.progress = nil
	}
}

// unsized are the sizes of running containers whose own record does not tell them:
// an older agent has made them.
func (w *worker) unsized() map[string]amounts {
	out := map[string]amounts{}
	eachResizable(w.pod, func(c *corev1.Container) {
		if have := w.obs.active(c.Name); have != nil && have.state == cri.StateRunning && !have.sized {
			out[have.id] = w.mem.actuated(w.pod, c, have)
		}
	})
	return out
}

// resizeDone notes what became of a resize; what it did is in the ledger already.
func (w *worker) resizeDone(r result, now time.Time) {
	if r.err == nil {
		w.mem.resizeAt = time.Time{}
		return
	}
	w.mem.resizeAt = now.Add(resizeRetry)
	generation := w.pod.Generation
	if w.mem.progress != nil {
		generation = w.mem.progress.generation
	}
	n := notice{reason: corev1.PodReasonError, message: r.err.Error(), generation: generation}
	if w.mem.progress == nil || *w.mem.progress != n {
		w.event("", corev1.EventTypeWarning, eventResizeError, resizeText("Pod resize error", w.pod, generation, n.message))
	}
	w.mem.progress = &n
}

// doResize changes the pod's group and its containers: memory, then CPU. What grows
// does so from the outside inwards, what shrinks the other way, for a group never
// holds more than it may. Each change is noted as it is made, so that what fails or
// dies in between goes on from there.
func (e *env) doResize(ctx context.Context, s *snapshot) error {
	given := e.ledger.given(s.ref.UID)
	if given == nil {
		return nil
	}
	if err := e.mayShrink(s, given); err != nil {
		return err
	}
	if err := e.regroup(s.pod); err != nil {
		return err
	}
	for _, memory := range []bool{true, false} {
		if err := e.resizeKind(ctx, s, memory); err != nil {
			return err
		}
	}
	if err := e.shareBurstable(); err != nil {
		return err
	}
	return e.ledger.note(s.ref.UID, func(a *allocation) *allocation {
		out := a.known(s.obs)
		out.Group = nil
		return out
	})
}

// resizeKind changes memory or CPU.
func (e *env) resizeKind(ctx context.Context, s *snapshot, memory bool) error {
	is, want := amounts{}, groupAmounts(s.pod)
	if given := e.ledger.given(s.ref.UID); given != nil && given.Group != nil {
		is = *given.Group
	} else {
		is = want
	}
	l := e.podLimits(s.pod)
	grows, shrinks := larger(want.CPULimit, is.CPULimit), larger(is.CPULimit, want.CPULimit)
	// A limit that was taken away has to be lifted: zero would leave it.
	only := cgroups.Limits{CPUShares: l.CPUShares, CPUQuota: cmp.Or(l.CPUQuota, cgroups.Unbounded), CPUPeriod: l.CPUPeriod}
	if memory {
		grows, shrinks = larger(want.MemoryLimit, is.MemoryLimit), larger(is.MemoryLimit, want.MemoryLimit)
		only = cgroups.Limits{MemoryLimit: cmp.Or(l.MemoryLimit, cgroups.Unbounded)}
	}
	group := e.cgroupPath(s.pod)
	if grows || !memory && !shrinks {
		if err := e.Cgroups.Ensure(group, only); err != nil {
			return fmt.Errorf("resize group of pod: %w", err)
		}
	}
	var shrinking, growing []func() error
	eachResizable(s.pod, func(c *corev1.Container) {
		have := s.obs.active(c.Name)
		m := memoryOf(e.ledger.given(s.ref.UID))
		if differs, _ := m.differs(s.pod, c, have); !differs {
			return
		}
		now, then := m.actuated(s.pod, c, have), amountsOf(s.pod, c)
		next := now
		if memory {
			next.MemoryRequest, next.MemoryLimit = then.MemoryRequest, then.MemoryLimit
		} else {
			next.CPURequest, next.CPULimit = then.CPURequest, then.CPULimit
		}
		if next == now {
			return
		}
		change := func() error { return e.resizeContainer(ctx, s, c, have, now, next) }
		if larger(next.MemoryLimit, now.MemoryLimit) || larger(next.CPULimit, now.CPULimit) {
			growing = append(growing, change)
		} else {
			shrinking = append(shrinking, change)
		}
	})
	for _, change := range append(shrinking, growing...) {
		if err := change(); err != nil {
			return err
		}
	}
	if shrinks {
		if err := e.Cgroups.Ensure(group, only); err != nil {
			return fmt.Errorf("resize group of pod: %w", err)
		}
	}
	return nil
}

func memoryOf(given *allocation) *memory { return &memory{given: given} }

// larger compares limits, of which none is the largest.
func larger(a, b int64) bool { return a != b && (a == 0 || b != 0 && a > b) }

// resizeContainer has the runtime change one container.
func (e *env) resizeContainer(ctx context.Context, s *snapshot, c *corev1.Container, have *container, now, next amounts) error {
	r := cri.Resources{
		CPUShares: sharesOf(next.CPURequest, next.CPULimit), CPUPeriod: cpuPeriod, CPUQuota: quotaOf(next.CPULimit),
		MemoryLimit: next.MemoryLimit, OOMScoreAdj: e.oomScoreAdj(s.pod, c),
	}
	if next.CPULimit == 0 {
		r.CPUQuota = -1
	}
	if next.MemoryLimit == 0 && now.MemoryLimit != 0 {
		r.MemoryLimit = -1
	}
	if err := e.cri.UpdateResources(ctx, have.id, r); err != nil {
		return fmt.Errorf("resize container %s: %w", c.Name, err)
	}
	return e.ledger.note(s.ref.UID, func(a *allocation) *allocation { return a.with(have.id, next) })
}

// mayShrink refuses limits of memory below what is used: the kernel would end
// processes for them, or refuse half of the way.
func (e *env) mayShrink(s *snapshot, given *allocation) error {
	var problems []string
	group := e.cgroupPath(s.pod)
	if want := groupAmounts(s.pod); given.Group != nil && larger(given.Group.MemoryLimit, want.MemoryLimit) {
		if used, err := e.Cgroups.Memory(group); err == nil && used >= uint64(want.MemoryLimit) {
			problems = append(problems, fmt.Sprintf("attempting to set pod memory limit (%d) below current usage (%d)", want.MemoryLimit, used))
		}
	}
	m := memoryOf(given)
	eachResizable(s.pod, func(c *corev1.Container) {
		have := s.obs.active(c.Name)
		if differs, _ := m.differs(s.pod, c, have); !differs {
			return
		}
		want := amountsOf(s.pod, c).MemoryLimit
		if !larger(m.actuated(s.pod, c, have).MemoryLimit, want) {
			return
		}
		for _, own := range e.Groups.Containers(group, have.id) {
			if used, err := e.Cgroups.Memory(own); err == nil && used >= uint64(want) {
				problems = append(problems, fmt.Sprintf("attempting to set container %q memory limit (%d) below current usage (%d)", c.Name, want, used))
			}
		}
	})
	switch len(problems) {
	case 0:
		return nil
	case 1:
		return errors.New("cannot decrease memory limits: " + problems[0])
	default:
		return errors.New("cannot decrease memory limits: [" + strings.Join(problems, ", ") + "]")
	}
}
