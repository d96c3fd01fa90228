package pods

import (
	"cmp"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/probe"
)

// ProbeTotal is how often one probe of a container came to one result.
type ProbeTotal struct {
	Pod       PodRef
	Container string
	// Type is Liveness, Readiness or Startup; Result successful, failed or unknown.
	Type, Result string
	Count        uint64
}

// probeTotals counts the results of probes, for as long as their pods are here.
type probeTotals struct {
	mu   sync.Mutex // guards the following field
	pods map[types.UID]map[probeTotalKey]*[3]uint64
}

type probeTotalKey struct {
	ref       PodRef
	container string
	kind      probeKind
}

// note counts one result.
func (t *probeTotals) note(ref PodRef, container string, kind probeKind, r probe.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pods == nil {
		t.pods = map[types.UID]map[probeTotalKey]*[3]uint64{}
	}
	of := t.pods[ref.UID]
	if of == nil {
		of = map[probeTotalKey]*[3]uint64{}
		t.pods[ref.UID] = of
	}
	key := probeTotalKey{ref, container, kind}
	if of[key] == nil {
		of[key] = &[3]uint64{}
	}
	of[key][r]++
}

// forget drops what was counted of a pod.
func (t *probeTotals) forget(uid types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pods, uid)
}

// ProbeTotals gives what probes have come to, by pod and container. All results of
// a probe that ran are there, also those that it never had.
func (m *Manager) ProbeTotals() []ProbeTotal {
	t := &m.env.probes
	t.mu.Lock()
	var out []ProbeTotal
	for _, of := range t.pods {
		for key, counts := range of {
			for r, result := range map[probe.Result]string{probe.Success: "successful", probe.Failure: "failed", probe.Unknown: "unknown"} {
				out = append(out, ProbeTotal{Pod: key.ref, Container: key.container, Type: key.kind.String(), Result: result, Count: counts[r]})
			}
		}
	}
	t.mu.Unlock()
	slices.SortFunc(out, func(a, b ProbeTotal) int {
		return cmp.Or(cmp.Compare(a.Pod.Namespace, b.Pod.Namespace), cmp.Compare(a.Pod.Name, b.Pod.Name), cmp.Compare(a.Pod.UID, b.Pod.UID),
			cmp.Compare(a.Container, b.Container), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Result, b.Result))
	})
	return out
}
