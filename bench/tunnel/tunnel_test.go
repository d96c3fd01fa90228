package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/bench/results"
)

func TestParseFlags(t *testing.T) {
	o, err := parseFlags([]string{"-run", "nat,outage", "-rounds", "3", "-links", "D,B", "-outages", "10,300"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"outage", "nat"}, o.scenarios); diff != "" {
		t.Errorf("scenarios (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"B", "D"}, o.links); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]time.Duration{10 * time.Second, 300 * time.Second}, o.outages); diff != "" {
		t.Errorf("outages (-want +got):\n%s", diff)
	}
	if o.rounds != 3 || len(o.systems) != 4 || o.out != "bench" {
		t.Errorf("got %+v", o)
	}
	o, err = parseFlags([]string{"-quick"}, io.Discard)
	if err != nil || o.rounds != 1 || len(o.outages) != 1 || len(o.scenarios) != len(scenarios()) {
		t.Errorf("quick is %+v, %v", o, err)
	}
	o, err = parseFlags([]string{"-quick", "-rounds", "4"}, io.Discard)
	if err != nil || o.rounds != 4 {
		t.Errorf("quick with rounds is %+v, %v", o, err)
	}
	for _, bad := range [][]string{
		{"-rounds", "0"}, {"more"}, {"-nosuch"}, {"-run", "nap"}, {"-links", "F"}, {"-systems", "pigeon"}, {"-outages", "0"}, {"-outages", "x"}, {"-sessions", "0"},
	} {
		if _, err := parseFlags(bad, io.Discard); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestBatches counts what runs at once: nothing beside a system on the LAN, and
// no more than a bed has lanes.
func TestBatches(t *testing.T) {
	for _, tt := range []struct {
		scenario string
		args     []string
		want     []int
	}{
		{"outage", nil, []int{24}},
		{"ipchange", nil, []int{8}},
		{"nat", nil, []int{4}},
		{"udpblock", nil, []int{16}},
		{"ttfb", nil, []int{1, 1, 1, 1, 1, 1, 1, 1, 32}},
		{"ttfb", []string{"-quick"}, []int{16}},
		{"ttfb", []string{"-links", "A"}, []int{1, 1, 1, 1, 1, 1, 1, 1}},
		{"echo", nil, []int{20}},
		{"bulk", nil, []int{1, 1, 1, 1, 1, 1, 1, 1, 4, 12, 4, 12}},
		{"bulk", []string{"-quick"}, []int{8, 8}},
		{"bulk", []string{"-systems", "skerry"}, []int{1, 1, 4, 4}},
		{"idle", nil, []int{1, 1, 1, 1}},
		{"idle", []string{"-links", "B"}, []int{1, 1, 1, 1}},
	} {
		o, err := parseFlags(tt.args, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		r := &runner{options: o}
		for _, s := range scenarios() {
			if s.name != tt.scenario {
				continue
			}
			var got []int
			for _, b := range s.batches(r, r.linksOf(s)) {
				got = append(got, len(b))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s %q (-want +got):\n%s", tt.scenario, tt.args, diff)
			}
		}
	}
}

func TestPrintTable(t *testing.T) {
	row := func(link, system, metric string, median float64) results.Row {
		return results.Row{Bench: name, Link: link, System: system, Metric: metric, Unit: "ms", Median: median, Min: median / 2, Max: 1234 * median, N: 3}
	}
	var b strings.Builder
	printTable(&b, "echo", []results.Row{
		row("D", "skerry", "echo_p99_ms", 2), row("B", "skerry", "echo_p50_ms", 4), row("B", "websocket", "echo_p50_ms", 8),
		row("B", "skerry", "echo_bulk_p50_ms", 5),
	})
	want := `
echo         link  unit  skerry              quic-stock  yamux-cubic  websocket
echo_p50_ms  B     ms    4 (2 to 4936, 3)  -           -            8 (4 to 9872, 3)
echo_p99_ms  D     ms    2 (1 to 2468, 3)  -           -            -

`
	// The writer fills up to the widest cell of each column.
	if diff := cmp.Diff(squeeze(want), squeeze(b.String())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func squeeze(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}
