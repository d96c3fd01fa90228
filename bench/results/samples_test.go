package results

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSamples(t *testing.T) {
	s := NewSamples("kubelet")
	exec := Key{Link: "B", System: "skerry", Metric: "exec_true_ms", Unit: "ms"}
	size := Key{Bench: "binaries", System: "cli", Metric: "size_mb", Unit: "MB"}
	s.Add(exec, 5)
	s.Add(size, 40)
	s.Add(exec, 1)
	s.Add(exec, 3)
	want := []Row{
		{Bench: "kubelet", Link: "B", System: "skerry", Metric: "exec_true_ms", Unit: "ms", Median: 3, Min: 1, Max: 5, N: 3},
		{Bench: "binaries", Link: NoLink, System: "cli", Metric: "size_mb", Unit: "MB", Median: 40, Min: 40, Max: 40, N: 1},
	}
	if diff := cmp.Diff(want, s.Rows()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
