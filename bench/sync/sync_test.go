package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/bench/results"
)

func TestParseFlags(t *testing.T) {
	o, err := parseFlags([]string{"-run", "wear,push", "-rounds", "5"}, io.Discard)
	if err != nil || o.rounds != 5 || o.out != "bench" || !o.does("push") || !o.does("wear") || o.does("idle") {
		t.Errorf("got %+v, %v", o, err)
	}
	o, err = parseFlags([]string{"-quick"}, io.Discard)
	if err != nil || o.rounds != 1 || pick(o, 2, 1) != 1 || len(o.scenarios) != len(scenarioNames())-1 || o.does("idle") {
		t.Errorf("quick is %+v, %v", o, err)
	}
	o, err = parseFlags([]string{"-quick", "-rounds", "2", "-run", "idle"}, io.Discard)
	if err != nil || o.rounds != 2 || !o.does("idle") {
		t.Errorf("quick with rounds is %+v, %v", o, err)
	}
	for _, bad := range [][]string{{"-rounds", "0"}, {"more"}, {"-nosuch"}, {"-run", "nap"}, {"-run", "push,"}} {
		if _, err := parseFlags(bad, io.Discard); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestObjectCounts counts what a reconnect is measured with.
func TestObjectCounts(t *testing.T) {
	have, names := 0, map[string]bool{}
	for _, count := range (options{}).reconnectCounts() {
		configMaps := reconnectConfigMaps(have, count)
		pods := podsNaming("edge", configMaps, podShare-1)
		named := 0
		for _, pod := range pods {
			names[pod.Name] = true
			named += len(pod.Spec.Volumes[0].Projected.Sources)
		}
		for _, cm := range configMaps {
			names[cm.Name] = true
		}
		if have += len(configMaps) + len(pods); have != count || named != len(configMaps) || len(names) != count {
			t.Errorf("%d objects, %d names and %d of %d ConfigMaps named, want %d", have, len(names), named, len(configMaps), count)
		}
	}
}

// metrics are those that a run has, by scenario.
func metrics() map[string][]string {
	m := map[string][]string{
		"push":  {"push_p50_ms", "push_p99_ms", "push_burst_s", "push_change_bytes", "push_configmap_bytes", "push_pod_bytes", "api_write_ms"},
		"idle":  {"idle_bytes_day", "idle_measured_s"},
		"wear":  {"write_amplification"},
		"extra": {"reconnect_objects_bytes"},
	}
	for _, count := range (options{}).reconnectCounts() {
		m["reconnect"] = append(m["reconnect"], metricOf("bytes", count), metricOf("ms", count))
	}
	return m
}

// TestFollowedMetrics: those whose figures are followed over time keep their names.
func TestFollowedMetrics(t *testing.T) {
	var all []string
	for _, scenario := range metrics() {
		all = append(all, scenario...)
	}
	for _, name := range []string{"push_p50_ms", "push_p99_ms", "reconnect_bytes", "idle_bytes_day", "write_amplification"} {
		if !slices.Contains(all, name) {
			t.Errorf("no %s", name)
		}
	}
	if metricOf("bytes", 1000) != "reconnect_bytes" || idlePods != 10 || ours != "skerry" || name != "sync" {
		t.Error("what the figures are of has changed")
	}
}

// TestReport wants words for each metric, a verdict for each budget and a plot.
func TestReport(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := &results.Results{}
	var rows []results.Row
	for _, scenario := range metrics() {
		for _, metric := range scenario {
			rows = append(rows, results.Row{Bench: name, Link: "B", System: ours, Metric: metric, Unit: "x", Median: 5000, Min: 1, Max: 9000, N: 3})
		}
	}
	r.Add(results.Run{When: at, Commit: "abc"}, rows)
	dir := t.TempDir()
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "RESULTS.md"))
	if err != nil {
		t.Fatal(err)
	}
	report := string(b)
	for _, row := range rows {
		if !strings.Contains(report, "\n- `"+row.Metric+"`: ") {
			t.Errorf("RESULTS.md does not say what %s is", row.Metric)
		}
	}
	for _, want := range []string{"| 5000 (1 to 9000, 3) | met |", "| 5000 (1 to 9000, 3) | **missed** |", "plots/sync-push.svg"} {
		if !strings.Contains(report, want) {
			t.Errorf("RESULTS.md lacks %q", want)
		}
	}
}

// TestKeptResults reads the rows of this bench that the repository has.
func TestKeptResults(t *testing.T) {
	b, err := os.ReadFile("../results.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []results.Row
	if err := json.Unmarshal(b, &rows); err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, scenario := range metrics() {
		known = append(known, scenario...)
	}
	for _, r := range rows {
		if r.Bench != name {
			continue
		}
		switch {
		case !slices.Contains(known, r.Metric):
			t.Errorf("metric %s is not one of the bench", r.Metric)
		case !slices.Contains([]string{ours, other, "kube-apiserver"}, r.System):
			t.Errorf("%s: system %q", r.Metric, r.System)
		case r.Link != results.NoLink && !slices.Contains(pushLinks(), r.Link):
			t.Errorf("%s: link %q", r.Metric, r.Link)
		case r.N < 1 || r.Min > r.Median || r.Median > r.Max || r.Max <= 0 || r.Commit == "" || r.When.IsZero():
			t.Errorf("figures that can't be: %+v", r)
		}
	}
}

func TestPrintTable(t *testing.T) {
	row := func(link, system, metric string, median float64) results.Row {
		return results.Row{Bench: name, Link: link, System: system, Metric: metric, Unit: "ms", Median: median, Min: median / 2, Max: 2 * median, N: 3}
	}
	var b strings.Builder
	printTable(&b, []results.Row{row("D", ours, "push_p99_ms", 200), row("B", other, "push_p50_ms", 8), row("B", ours, "push_p50_ms", 4)})
	want := []string{
		"sync link unit skerry websocket",
		"push_p50_ms B ms 4 (2 to 8, 3) 8 (4 to 16, 3)",
		"push_p99_ms D ms 200 (100 to 400, 3) -",
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWrites(t *testing.T) {
	var w writes
	a, b := &end{}, &end{}
	w.add("one", a, b)
	w.add("two", b)
	w.answered(5 * time.Millisecond)
	if got := fmt.Sprint(len(w.at[a]), len(w.at[b]), w.took); got != "1 2 [5]" {
		t.Errorf("got %s", got)
	}
}
