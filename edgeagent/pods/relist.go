package pods

import (
	"context"
	"errors"
	"hash/fnv"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

const (
	// relistBusy is the pace while something is likely to change, the kubelet's
	// own. relistIdle is as far as it stretches without events, relistEvented
	// with them, where it only guards against lost ones.
	relistBusy    = time.Second
	relistIdle    = 5 * time.Second
	relistEvented = time.Minute
	// eventsRetry is the pause before a broken event stream is opened again.
	eventsRetry = 5 * time.Second
)

// fingerprint is what a relist keeps of a pod: enough to see that something
// changed, and whose it is.
type fingerprint struct {
	ref PodRef
	sum uint64
}

// fingerprints lists all pods of the runtime in two calls.
func (m *Manager) fingerprints(ctx context.Context) (map[types.UID]fingerprint, error) {
	sandboxes, err := m.env.cri.ListSandboxes(ctx, nil)
	if err != nil {
		return nil, err
	}
	containers, err := m.env.cri.ListContainers(ctx, nil)
	if err != nil {
		return nil, err
	}
	out := make(map[types.UID]fingerprint, len(sandboxes))
	// Sums are added up, so that the order of the list does not matter.
	add := func(labels map[string]string, id string, state byte) {
		uid := types.UID(labels[labelPodUID])
		if uid == "" {
			return // not a pod of Kubernetes
		}
		h := fnv.New64a()
		// The state goes first: FNV hardly mixes its last byte, so that a sandbox and its
		// container that end together could leave the sum as it was.
		_, _ = h.Write([]byte{state})
		_, _ = h.Write([]byte(id))
		f := out[uid]
		f.ref = PodRef{Namespace: labels[labelPodNamespace], Name: labels[labelPodName], UID: uid}
		f.sum += h.Sum64()
		out[uid] = f
	}
	for i := range sandboxes {
		var ready byte
		if sandboxes[i].Ready {
			ready = 1
		}
		add(sandboxes[i].Labels, sandboxes[i].ID, ready)
	}
	for i := range containers {
		add(containers[i].Labels, containers[i].ID, byte(containers[i].State))
	}
	return out, nil
}

// relist wakes workers whose pods have changed in the runtime.
func (m *Manager) relist(ctx context.Context) {
	evented := make(chan bool, 1)
	m.running.Go(func() { m.events(ctx, evented) })
	idle := relistIdle
	last := map[types.UID]fingerprint{}
	pause := relistBusy
	failing := false
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case on := <-evented:
			idle = relistIdle
			if on {
				idle = relistEvented
			}
		case <-timer.C:
		}
		timer.Stop()
		now, err := m.fingerprints(ctx)
		if err != nil {
			if !failing && ctx.Err() == nil {
				m.env.Log.Error("runtime not readable", "error", err)
			}
			failing, pause = true, relistBusy
			continue
		}
		failing = false
		changed := m.compare(ctx, last, now)
		last = now
		if changed || m.anyBusy(idle) {
			pause = relistBusy
		} else {
			pause = min(pause*3/2, idle)
		}
	}
}

// compare wakes the workers of pods that differ and makes one for a pod that
// nobody asked for, which will remove it.
func (m *Manager) compare(ctx context.Context, last, now map[types.UID]fingerprint) bool {
	changed := false
	begun := m.hasBegun()
	for uid, f := range now {
		if last[uid].sum != f.sum && (begun || m.has(uid)) {
			changed = true
			m.ensure(ctx, f.ref).ring(false, false, true)
		}
	}
	for uid, f := range last {
		if _, ok := now[uid]; !ok {
			changed = true
			m.mu.Lock()
			w := m.workers[f.ref.UID]
			m.mu.Unlock()
			if w != nil {
				w.ring(false, false, true)
			}
		}
	}
	return changed
}

// anyBusy says whether a worker expects changes that only a relist would show.
func (m *Manager) anyBusy(idle time.Duration) bool {
	if idle == relistEvented {
		return false
	}
	busy := false
	m.each(func(w *worker) { busy = busy || w.snapshotView().busy })
	return busy
}

// events follows the runtime's event stream where it has one.
func (m *Manager) events(ctx context.Context, evented chan<- bool) {
	say := func(on bool) {
		select {
		case evented <- on:
		case <-ctx.Done():
		}
	}
	on := false
	for ctx.Err() == nil {
		err := m.env.cri.Events(ctx, func(uid string) {
			if !on {
				on = true
				say(true)
			}
			m.mu.Lock()
			w := m.workers[types.UID(uid)]
			m.mu.Unlock()
			if w != nil {
				w.ring(false, false, true)
			}
		})
		if errors.Is(err, cri.ErrUnsupported) {
			m.env.Log.Debug("runtime has no event stream, relisting")
			return
		}
		if on {
			on = false
			say(false)
		}
		select {
		case <-ctx.Done():
		case <-time.After(eventsRetry):
		}
	}
}

func (m *Manager) has(uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.workers[uid] != nil
}
