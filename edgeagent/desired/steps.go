package desired

import (
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// maxProgressEntries is where a Progress frame is cut: with the longest names that the
// API has it is below the bound of PROTOCOL.md, 64 KiB.
const maxProgressEntries = 128

// Steps knows how far each stored version has come. It is told by whoever acts on
// the objects, and the Client tells the cloud. It keeps only what is not as far as
// it will come, and forgets with the process: after a restart all pods count as
// stored, until they are seen to run.
type Steps struct {
	bell chan struct{} // capacity 1: there is news

	mu   sync.Mutex // guards the following fields
	lags map[string]*lag
	news map[string]wire.Advance // what the stream has yet to tell
}

// lag is an object that is not as far as it will come.
type lag struct {
	// resourceVersion is that of the stored value; empty stands for any.
	resourceVersion string
	step            wire.Step
	since           time.Time
}

// NewSteps makes Steps for what is in s.
func NewSteps(s *store.Store) (*Steps, error) {
	t := &Steps{bell: make(chan struct{}, 1), lags: make(map[string]*lag), news: make(map[string]wire.Advance)}
	now := time.Now()
	err := s.Versions(string(wire.ResourcePods)+"/", func(e store.Entry) bool {
		t.lags[e.Key] = &lag{step: wire.StepStored, since: now}
		return true
	})
	return t, err
}

// Pod says that a pod, in the version that it is given in, has come to step.
func (t *Steps) Pod(pod *corev1.Pod, step wire.Step) {
	key := wire.ObjectKey(wire.ResourcePods, pod.Namespace, pod.Name)
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.lags[key]; l != nil && (l.resourceVersion == "" || l.resourceVersion == pod.ResourceVersion) {
		t.advanceLocked(key, l, step)
	}
}

// Object says that what is stored under key, of something that pods name, is what
// they see.
func (t *Steps) Object(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.lags[key]; l != nil {
		t.advanceLocked(key, l, wire.StepApplied)
	}
}

func (t *Steps) advanceLocked(key string, l *lag, step wire.Step) {
	if step <= l.step {
		return
	}
	l.step = step
	t.news[key] = l.advance(key)
	if step >= wire.LastStep(key) {
		delete(t.lags, key)
	}
	ring(t.bell)
}

func (l *lag) advance(key string) wire.Advance {
	return wire.Advance{Key: key, Step: l.step, Seconds: uint64(max(time.Since(l.since), 0) / time.Second)}
}

// rung is sent to when there is news. This and the following methods take a nil t
// for one that knows nothing.
func (t *Steps) rung() <-chan struct{} {
	if t == nil {
		return nil
	}
	return t.bell
}

// stored notes what a batch has put on the disk.
func (t *Steps) stored(changes map[string]change) {
	if t == nil {
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, c := range changes {
		delete(t.news, key)
		delete(t.lags, key)
		if !c.deleted {
			t.lags[key] = &lag{resourceVersion: c.resourceVersion, step: wire.StepStored, since: now}
		}
	}
}

// begin makes news of all that a new stream should hear.
func (t *Steps) begin() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.news)
	for key, l := range t.lags {
		t.news[key] = l.advance(key)
	}
	if len(t.news) > 0 {
		ring(t.bell)
	}
}

// tell writes what is news.
func (t *Steps) tell(w io.Writer) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	var all []wire.Advance
	for _, key := range slices.Sorted(maps.Keys(t.news)) {
		all = append(all, t.news[key])
	}
	clear(t.news)
	t.mu.Unlock()
	for part := range slices.Chunk(all, maxProgressEntries) {
		if err := wire.Write(w, &wire.Progress{Entries: part}); err != nil {
			return err
		}
	}
	return nil
}
