package pods

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// minStarts is how many sandboxes and containers may start at a time on the
	// smallest machine: more only make each other slow, and the most important one
	// last as long as the least.
	minStarts = 4
	// turnLease is how long a start may keep its turn. One that takes longer goes on
	// without: what hangs must not hold up others.
	turnLease = 2 * time.Second
	// bootHold is how long, after the agent's start, pods wait for those of higher
	// priority to be on their way.
	bootHold = 4 * time.Second

	// The priorities of the two classes that every cluster has.
	priorityNodeCritical    = 2_000_001_000
	priorityClusterCritical = 2_000_000_000
)

// priority is the pod's place in the order of starts. A static pod that says
// nothing is critical, as to the kubelet.
func priority(pod *corev1.Pod) int32 {
	switch {
	case pod == nil:
		return 0
	case pod.Spec.Priority != nil:
		return *pod.Spec.Priority
	case pod.Spec.PriorityClassName == "system-node-critical", static(pod):
		return priorityNodeCritical
	case pod.Spec.PriorityClassName == "system-cluster-critical":
		return priorityClusterCritical
	default:
		return 0
	}
}

// turns lets few starts go on at a time, and of those that wait the most
// important one first.
type turns struct {
	limit int
	lease time.Duration // zero means until it is over

	mu      sync.Mutex // guards the following fields
	held    int
	waiting []*turn // by priority, then in the order of coming
	coming  map[types.UID]int32
	until   time.Time // when coming counts no more
}

// turn is one start that waits.
type turn struct {
	priority int32
	ready    chan struct{} // closed when it is its turn
}

func newTurns(limit int, lease time.Duration) *turns {
	return &turns{limit: limit, lease: lease, coming: map[types.UID]int32{}}
}

func maxStarts() int { return max(minStarts, 2*runtime.NumCPU()) }

// expect says that these pods are about to come up: until each has settled, and
// for hold at most, no pod of lower priority gets a turn.
func (t *turns) expect(pods []*corev1.Pod, hold time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range pods {
		if p.DeletionTimestamp == nil && !terminal(p.Status.Phase) {
			t.coming[p.UID] = priority(p)
		}
	}
	t.until = time.Now().Add(hold)
	time.AfterFunc(hold, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		clear(t.coming)
		t.grantLocked()
	})
}

// settle says that a pod has come up, or that it waits for something else.
func (t *turns) settle(uid types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.coming[uid]; ok {
		delete(t.coming, uid)
		t.grantLocked()
	}
}

// take waits for a turn. The caller calls done when it is over; calling it again
// does nothing.
func (t *turns) take(ctx context.Context, priority int32) (done func(), err error) {
	w := &turn{priority: priority, ready: make(chan struct{})}
	t.mu.Lock()
	at, _ := slices.BinarySearchFunc(t.waiting, w, func(have, w *turn) int {
		if have.priority >= w.priority {
			return -1 // who came first goes first
		}
		return 1
	})
	t.waiting = slices.Insert(t.waiting, at, w)
	t.grantLocked()
	t.mu.Unlock()
	select {
	case <-w.ready:
	case <-ctx.Done():
		t.leave(w)
		return nil, ctx.Err()
	}
	var once sync.Once
	end := func() { once.Do(t.release) }
	if t.lease == 0 {
		return end, nil
	}
	timer := time.AfterFunc(t.lease, end)
	return func() {
		timer.Stop()
		end()
	}, nil
}

// leave takes a turn back that nobody wants any more.
func (t *turns) leave(w *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at := slices.Index(t.waiting, w); at >= 0 {
		t.waiting = slices.Delete(t.waiting, at, at+1)
	} else {
		t.held-- // it had come just now
	}
	t.grantLocked()
}

func (t *turns) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held--
	t.grantLocked()
}

// grantLocked gives turns to whoever may have one.
func (t *turns) grantLocked() {
	for t.held < t.limit && len(t.waiting) > 0 && !t.earlyLocked(t.waiting[0]) {
		t.held++
		close(t.waiting[0].ready)
		t.waiting = t.waiting[1:]
	}
}

// earlyLocked says whether somebody more important is still to come.
func (t *turns) earlyLocked(w *turn) bool {
	if len(t.coming) == 0 || !time.Now().Before(t.until) {
		return false
	}
	for _, p := range t.coming {
		if p > w.priority {
			return true
		}
	}
	return false
}

// settled says whether the worker has nothing to start now, or in a moment.
func (w *worker) settled() bool {
	for _, r := range w.mem.starts {
		if r.orphaned {
			return false
		}
	}
	for _, key := range []string{opVolumes, opSandbox, opStart} {
		if w.mem.ops[key] != nil {
			return false
		}
	}
	return true
}
