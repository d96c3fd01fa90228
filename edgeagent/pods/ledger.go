package pods

import (
	"cmp"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/admission"
	"github.com/skerry-io/skerry/edgeagent/pods/demand"
)

// ledger is who has been admitted to the node, and what each has been given. All
// that it does is in memory but for a small file per pod.
type ledger struct {
	ledgerConfig

	mu sync.Mutex // guards the following fields
	// shares are the pods that have been admitted and are not over.
	shares map[types.UID]*share
	// coming are pods that wait for the end of others whose place they will take.
	coming map[types.UID]*corev1.Pod
	// victims are those that make room. They hold what they have until they are over,
	// and nobody has to go for what they will give back.
	victims map[types.UID]bool
	// deferred are pods that wait for resources, with those that they want.
	deferred map[types.UID]*deferral
	// granted are those whose wait has ended, until they hear of it.
	granted map[types.UID]bool
}

// ledgerConfig is what a ledger needs of others.
type ledgerConfig struct {
	node   func() *admission.Node
	save   func(types.UID, *allocation) error
	load   func(types.UID) *allocation
	forget func(types.UID)
	ring   func(types.UID) // wakes a pod's worker; does not block
	// gone says that nobody wants a pod any more: it only ends.
	gone func(*corev1.Pod) bool
}

type share struct {
	pod   *corev1.Pod // with what it has been given
	given *allocation
}

type deferral struct {
	pod   *corev1.Pod
	sizes map[string]amounts // of containers about which nothing is known
	since time.Time
}

func newLedger(cfg ledgerConfig) *ledger {
	return &ledger{
		ledgerConfig: cfg,
		shares:       map[types.UID]*share{}, coming: map[types.UID]*corev1.Pod{},
		victims: map[types.UID]bool{}, deferred: map[types.UID]*deferral{}, granted: map[types.UID]bool{},
	}
}

// restore takes a pod in that a former agent has admitted. It says whether it did.
func (l *ledger) restore(pod *corev1.Pod) bool {
	given := l.load(pod.UID)
	if given == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shares[pod.UID] == nil {
		l.shares[pod.UID] = &share{given.view(pod), given}
	}
	return true
}

// adopt takes a pod in that runs already.
func (l *ledger) adopt(pod *corev1.Pod) error {
	if l.restore(pod) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.giveLocked(pod, allocationOf(pod))
}

func (l *ledger) giveLocked(pod *corev1.Pod, given *allocation) error {
	l.shares[pod.UID] = &share{given.view(pod), given}
	return l.save(pod.UID, given)
}

func (l *ledger) has(uid types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shares[uid] != nil
}

// answer is what a pod hears that asks to be let in. It waits if it is neither
// refused nor admitted.
type answer struct {
	admitted bool
	refused  *admission.Refusal
	// preempt are those that make room; some may be ending already.
	preempt []types.UID
}

// admit asks whether a new pod may run. One that takes the place of others is asked
// again when they have gone.
func (l *ledger) admit(pod *corev1.Pod) (a answer, err error) {
	node := l.node()
	l.mu.Lock()
	defer l.mu.Unlock()
	others := l.othersLocked(pod.UID)
	v := admission.Check(node, others, pod)
	if v.Refused == nil && len(v.Preempt) == 0 {
		delete(l.coming, pod.UID)
		return answer{admitted: true}, l.giveLocked(pod, allocationOf(pod))
	}
	// What is about to be given back is waited for. A kubelet does not count what was
	// deleted by force, and its runtime tries until the other has ended.
	staying := slices.DeleteFunc(slices.Clone(others), func(o *corev1.Pod) bool { return l.victims[o.UID] || l.gone(o) })
	v = admission.Check(node, staying, pod)
	if v.Refused != nil {
		delete(l.coming, pod.UID)
		return answer{refused: v.Refused}, nil
	}
	l.coming[pod.UID] = pod
	for _, uid := range v.Preempt {
		l.victims[uid] = true
	}
	// All of them hear it again: one whose worker had not begun has not heard it yet.
	others = slices.DeleteFunc(others, func(o *corev1.Pod) bool { return !l.victims[o.UID] })
	for _, o := range others {
		a.preempt = append(a.preempt, o.UID)
	}
	return a, nil
}

// othersLocked are the pods that count beside one, in an order that is the same each
// time: of equal pods always the same one goes.
func (l *ledger) othersLocked(uid types.UID) []*corev1.Pod {
	out := make([]*corev1.Pod, 0, len(l.shares)+len(l.coming))
	for other, s := range l.shares {
		if other != uid {
			out = append(out, s.pod)
		}
	}
	for other, pod := range l.coming {
		if other != uid {
			out = append(out, pod)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Pod) int { return cmp.Compare(a.UID, b.UID) })
	return out
}

// view notes the pod's present object and gives it with the resources that it has.
// What was not admitted is as it says.
func (l *ledger) view(pod *corev1.Pod) *corev1.Pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.shares[pod.UID]
	if s == nil {
		return pod
	}
	s.pod = s.given.view(pod)
	return s.pod
}

// given is what a pod has; nil if it was not admitted.
func (l *ledger) given(uid types.UID) *allocation {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.shares[uid]; s != nil {
		return s.given
	}
	return nil
}

// note keeps what has been done with a pod's resources.
func (l *ledger) note(uid types.UID, change func(*allocation) *allocation) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.shares[uid]
	if s == nil {
		return nil
	}
	s.given = change(s.given)
	return l.save(uid, s.given)
}

// drop forgets a pod that is over, and sees who waits for what it held.
func (l *ledger) drop(uid types.UID) {
	l.mu.Lock()
	_, had := l.shares[uid]
	_, came := l.coming[uid]
	delete(l.shares, uid)
	delete(l.coming, uid)
	delete(l.victims, uid)
	delete(l.deferred, uid)
	delete(l.granted, uid)
	l.mu.Unlock()
	if had {
		l.forget(uid)
	}
	if had || came {
		l.retry()
	}
}

// resized is the answer to a pod that asks for other resources.
type resized struct {
	granted bool // just now: it has what it asks for
	waits   *admission.Refusal
}

// resize asks for the resources that the pod says now. sizes are those of its
// running containers about which nothing is known.
func (l *ledger) resize(pod *corev1.Pod, sizes map[string]amounts, now time.Time) (resized, error) {
	l.mu.Lock()
	s := l.shares[pod.UID]
	if s == nil || s.given.covers(pod) {
		r := resized{granted: l.granted[pod.UID]}
		delete(l.granted, pod.UID)
		delete(l.deferred, pod.UID)
		l.mu.Unlock()
		return r, nil
	}
	node := l.node() // reads the store, so only for those that ask for something
	shrinks := !grows(s.pod, pod)
	if refused := admission.Fits(node, l.othersLocked(pod.UID), pod); refused != nil {
		d := l.deferred[pod.UID]
		if d == nil {
			d = &deferral{since: now}
			l.deferred[pod.UID] = d
		}
		d.pod, d.sizes = pod, sizes
		l.mu.Unlock()
		return resized{waits: refused}, nil
	}
	err := l.grantLocked(s, pod, sizes)
	delete(l.deferred, pod.UID)
	delete(l.granted, pod.UID)
	l.mu.Unlock()
	if shrinks {
		l.retry()
	}
	return resized{granted: true}, err
}

// grantLocked gives the pod what it asks for, and remembers what was made with less
// or more.
func (l *ledger) grantLocked(s *share, pod *corev1.Pod, sizes map[string]amounts) error {
	given := allocationOf(pod)
	given.Changed, given.Group = s.given.Changed, s.given.Group
	for id, a := range sizes {
		if _, ok := given.Changed[id]; !ok {
			given = given.with(id, a)
		}
	}
	if given.Group == nil {
		was := groupAmounts(s.pod)
		given.Group = &was
	}
	return l.giveLocked(pod, given)
}

// retry gives waiting pods what there is now, by priority, class and time.
func (l *ledger) retry() {
	node := l.node()
	l.mu.Lock()
	var woken []types.UID
	for uid := range l.coming {
		woken = append(woken, uid)
	}
	waiting := make([]*deferral, 0, len(l.deferred))
	for _, d := range l.deferred {
		waiting = append(waiting, d)
	}
	slices.SortFunc(waiting, func(a, b *deferral) int {
		return cmp.Or(
			cmp.Compare(demand.Priority(b.pod), demand.Priority(a.pod)),
			cmp.Compare(classRank(a.pod), classRank(b.pod)),
			a.since.Compare(b.since),
		)
	})
	for _, d := range waiting {
		uid := d.pod.UID
		s := l.shares[uid]
		if s == nil || admission.Fits(node, l.othersLocked(uid), d.pod) != nil {
			continue
		}
		if err := l.grantLocked(s, d.pod, d.sizes); err != nil {
			continue // its worker asks again, and tells
		}
		delete(l.deferred, uid)
		l.granted[uid] = true
		woken = append(woken, uid)
	}
	l.mu.Unlock()
	for _, uid := range woken {
		l.ring(uid)
	}
}

func classRank(pod *corev1.Pod) int {
	if demand.QOS(pod) == corev1.PodQOSGuaranteed {
		return 0
	}
	return 1
}

// grows says whether the pod would request more CPU or memory than it has.
func grows(has, wants *corev1.Pod) bool {
	a, b := demand.Requests(has), demand.Requests(wants)
	return b.Cpu().Cmp(*a.Cpu()) > 0 || b.Memory().Cmp(*a.Memory()) > 0
}

// burstableCPU is what all burstable pods request together.
func (l *ledger) burstableCPU() (milli int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.shares {
		if demand.QOS(s.pod) == corev1.PodQOSBurstable {
			r := demand.Requests(s.pod)
			milli += r.Cpu().MilliValue()
		}
	}
	return milli
}
