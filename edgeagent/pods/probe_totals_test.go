package pods

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/edgeagent/pods/probe"
)

func TestProbeTotals(t *testing.T) {
	m := &Manager{env: &env{}}
	a, b := PodRef{Namespace: "ns", Name: "a", UID: "1"}, PodRef{Namespace: "ns", Name: "b", UID: "2"}
	totals := &m.env.probes
	totals.note(b, "c", probeStartup, probe.Unknown)
	for range 3 {
		totals.note(a, "c", probeLiveness, probe.Success)
	}
	totals.note(a, "c", probeLiveness, probe.Failure)
	of := func(ref PodRef, kind, result string, n uint64) ProbeTotal {
		return ProbeTotal{Pod: ref, Container: "c", Type: kind, Result: result, Count: n}
	}
	want := []ProbeTotal{
		of(a, "Liveness", "failed", 1), of(a, "Liveness", "successful", 3), of(a, "Liveness", "unknown", 0),
		of(b, "Startup", "failed", 0), of(b, "Startup", "successful", 0), of(b, "Startup", "unknown", 1),
	}
	if diff := cmp.Diff(want, m.ProbeTotals()); diff != "" {
		t.Error(diff)
	}
	totals.forget(a.UID)
	if diff := cmp.Diff(want[3:], m.ProbeTotals()); diff != "" {
		t.Error("after the pod has gone:", diff)
	}
}
