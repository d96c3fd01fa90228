package admission

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/demand"
)

// shortage is a resource of which too little is left.
type shortage struct {
	name                      corev1.ResourceName
	requested, used, capacity int64
}

func (s *shortage) refusal() *Refusal {
	return &Refusal{
		Reason: reasonOutOf + string(s.name),
		Message: fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
			s.name, s.requested, s.used, s.capacity),
	}
}

// shortages compares the sum of requests with what is allocatable: pods first, then
// CPU, memory, ephemeral storage and the others by name.
func shortages(node *Node, others []*corev1.Pod, pod *corev1.Pod) []shortage {
	var out []shortage
	if q, ok := node.Allocatable[corev1.ResourcePods]; ok && int64(len(others))+1 > q.Value() {
		out = append(out, shortage{corev1.ResourcePods, 1, int64(len(others)), q.Value()})
	}
	want := demand.Requests(pod)
	names := make([]corev1.ResourceName, 0, len(want))
	for name, q := range want {
		if q.Sign() > 0 && bounded(node, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return out
	}
	slices.SortFunc(names, func(a, b corev1.ResourceName) int { return cmp.Or(order(a)-order(b), cmp.Compare(a, b)) })
	used := map[corev1.ResourceName]int64{}
	for _, o := range others {
		has := demand.Requests(o)
		for _, name := range names {
			used[name] += demand.Amount(name, has[name])
		}
	}
	for _, name := range names {
		s := shortage{name, demand.Amount(name, want[name]), used[name], demand.Amount(name, node.Allocatable[name])}
		if s.requested > s.capacity-s.used {
			out = append(out, s)
		}
	}
	return out
}

// bounded says whether a request is checked: one of the node's own that it knows,
// or huge pages, of which a node without has none.
func bounded(node *Node, name corev1.ResourceName) bool {
	_, known := node.Allocatable[name]
	return known || demand.HugePages(name)
}

func order(name corev1.ResourceName) int {
	switch name {
	case corev1.ResourceCPU:
		return 0
	case corev1.ResourceMemory:
		return 1
	case corev1.ResourceEphemeralStorage:
		return 2
	default:
		return 3
	}
}

// need is what is still missing of a resource.
type need struct {
	name   corev1.ResourceName
	amount int64
}

// candidate is a pod that may be preempted.
type candidate struct {
	uid      types.UID
	requests corev1.ResourceList
}

func (c *candidate) has(name corev1.ResourceName) int64 {
	if name == corev1.ResourcePods {
		return 1
	}
	return demand.Amount(name, c.requests[name])
}

// preempt chooses which pods make room, as few and as small as may be, best effort
// before burstable before guaranteed.
func preempt(pod *corev1.Pod, others []*corev1.Pod, short []shortage) ([]types.UID, error) {
	needs := make([]need, 0, len(short))
	for _, s := range short {
		needs = append(needs, need{s.name, s.requested - (s.capacity - s.used)})
	}
	byClass := map[corev1.PodQOSClass][]*candidate{}
	var all []*candidate
	for _, o := range others {
		if demand.MayPreempt(pod, o) {
			c := &candidate{o.UID, demand.Requests(o)}
			class := demand.QOS(o)
			byClass[class], all = append(byClass[class], c), append(all, c)
		}
	}
	if left := less(needs, all...); len(left) > 0 {
		return nil, fmt.Errorf("preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: %s", list(left))
	}
	best, burst, guaranteed := byClass[corev1.PodQOSBestEffort], byClass[corev1.PodQOSBurstable], byClass[corev1.PodQOSGuaranteed]
	// Of each class only what all of the lesser ones can't give.
	g := nearest(guaranteed, less(less(needs, best...), burst...))
	b := nearest(burst, less(less(needs, best...), g...))
	e := nearest(best, less(less(needs, b...), g...))
	var out []types.UID
	for _, c := range slices.Concat(e, b, g) {
		out = append(out, c.uid)
	}
	return out, nil
}

// nearest takes the pods that come closest to the needs until these are met.
func nearest(from []*candidate, needs []need) []*candidate {
	from = slices.Clone(from)
	var out []*candidate
	for len(needs) > 0 && len(from) > 0 {
		at := 0
		for i := range from {
			if cmp.Or(cmp.Compare(distance(from[i], needs), distance(from[at], needs)), smaller(from[i], from[at])) < 0 {
				at = i
			}
		}
		out = append(out, from[at])
		needs = less(needs, from[at])
		from = slices.Delete(from, at, at+1)
	}
	return out
}

// distance weighs what the pod leaves missing of each resource alike.
func distance(c *candidate, needs []need) (sum float64) {
	for _, n := range needs {
		if left := float64(n.amount - c.has(n.name)); left > 0 {
			sum += (left / float64(n.amount)) * (left / float64(n.amount))
		}
	}
	return sum
}

func smaller(a, b *candidate) int {
	return cmp.Or(
		cmp.Compare(a.has(corev1.ResourceMemory), b.has(corev1.ResourceMemory)),
		cmp.Compare(a.has(corev1.ResourceCPU), b.has(corev1.ResourceCPU)),
	)
}

// less is what is still needed when these pods have gone.
func less(needs []need, gone ...*candidate) []need {
	var out []need
	for _, n := range needs {
		for _, c := range gone {
			n.amount -= c.has(n.name)
		}
		if n.amount > 0 {
			out = append(out, n)
		}
	}
	return out
}

func list(needs []need) string {
	var b strings.Builder
	for _, n := range needs {
		fmt.Fprintf(&b, "(res: %v, q: %d), ", n.name, n.amount)
	}
	return "[" + b.String() + "]"
}
