package results

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files, and RESULTS.md with its plots anew")

var (
	day1 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	day2 = day1.Add(24 * time.Hour)
)

func testRun(when time.Time, commit string) Run {
	return Run{When: when, Commit: commit, Command: "make bench-x", CPU: "Some CPU", Cores: 2, Kernel: "6.1.0", Go: "go1.26.0"}
}

func row(bench, link, system, metric string, median float64) Row {
	return Row{Bench: bench, Link: link, System: system, Metric: metric, Unit: "ms", Median: median, Min: median / 2, Max: median * 1.5, N: 9}
}

func TestAddReplaces(t *testing.T) {
	r := &Results{}
	r.Add(testRun(day1, "old"), []Row{
		row("kubelet", "A", "skerry", "m", 1), row("kubelet", "B", "skerry", "m", 2), row("kubelet", "A", "other", "m", 3),
		row("kubelet", "A", "skerry", "n", 4), row("tunnel", "A", "skerry", "m", 5),
	})
	r.Add(testRun(day2, "new"), []Row{row("kubelet", "A", "skerry", "m", 10)})
	var got []string
	for _, x := range r.Rows {
		got = append(got, strings.Join([]string{x.Bench, x.Metric, x.System, x.Link, number(x.Median), x.Commit}, " "))
	}
	want := []string{
		"kubelet m other A 3 old", "kubelet m skerry A 10 new", "kubelet m skerry B 2 old", "kubelet n skerry A 4 old", "tunnel m skerry A 5 old",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if len(r.Runs) != 2 {
		t.Errorf("%d runs, want both", len(r.Runs))
	}
	r.Add(testRun(day2.Add(time.Hour), "newest"), []Row{row("kubelet", "A", "skerry", "m", 11)})
	if len(r.Runs) != 2 || r.Runs[1].Commit != "newest" {
		t.Errorf("runs are %+v: that without rows must be gone", r.Runs)
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir()
	empty, err := Load(dir)
	if err != nil || len(empty.Rows)+len(empty.Runs) != 0 {
		t.Fatalf("got %+v, %v of an empty directory", empty, err)
	}
	want := sample()
	if err := want.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-saved +loaded):\n%s", diff)
	}
	b, err := os.ReadFile(filepath.Join(dir, rowsFile))
	if err != nil {
		t.Fatal(err)
	}
	first := `  {"bench":"gauge","link":"-","system":"skerry","metric":"depth","unit":"m","median":-3.25,"min":-4,"max":-3,"n":3,` +
		`"when":"2026-01-03T03:04:05Z","commit":"bbbb"},`
	if lines := strings.Split(string(b), "\n"); lines[1] != first {
		t.Errorf("got  %s\nwant %s", lines[1], first)
	}
	if err := os.WriteFile(filepath.Join(dir, rowsFile), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), rowsFile) {
		t.Errorf("error is %v", err)
	}
}

func TestRowWithoutRun(t *testing.T) {
	r := sample()
	r.Runs = r.Runs[:1]
	if _, err := r.render(); err == nil || !strings.Contains(err.Error(), runsFile) {
		t.Errorf("error is %v: the machine of some rows is not known", err)
	}
}

// sample has two systems, a metric without words, links without figures, a
// bench without words, a budget that is met and one that is not.
func sample() *Results {
	r := &Results{}
	rows := []Row{
		row("kubelet", NoLink, "kubectl", "floor_ms", 50),
		row("kubelet", "D", "skerry", "zzz_ms", 12.345),
		{Bench: "kubelet", Link: "D", System: "skerry", Metric: "exec_above_clean_rtt", Unit: "RTT", Median: 1.31, Min: 1, Max: 2, N: 9},
		{Bench: "pods", Link: NoLink, System: "skerry", Metric: "vmrss_mb", Unit: "MB", Median: 45, Min: 45, Max: 45, N: 1},
	}
	for i, link := range []string{"A", "B", "D"} {
		x := float64(i + 1)
		rows = append(rows, row("kubelet", link, "skerry", "exec_true_ms", 100*x), row("kubelet", link, "other & <old>", "exec_true_ms", 333*x),
			row("kubelet", link, "skerry", "log_first_line_ms", 90*x))
	}
	rows[len(rows)-1].Max = 12345 // leaves the plot
	r.Add(testRun(day1, "aaaa"), rows)
	r.Add(testRun(day2, "bbbb"), []Row{
		{Bench: "gauge", Link: NoLink, System: "skerry", Metric: "depth", Unit: "m", Median: -3.25, Min: -4, Max: -3, N: 3},
		row("kubelet", "A", "skerry", "exec_true_ms", 70),
	})
	return r
}

func TestGolden(t *testing.T) {
	compare(t, sample(), "testdata")
}

// TestReport sees that the report is what its sources make.
func TestReport(t *testing.T) {
	r, err := Load("..")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) == 0 {
		t.Fatal("there are no results")
	}
	compare(t, r, "..")
}

// compare compares what r renders with the files below dir.
func compare(t *testing.T, r *Results, dir string) {
	t.Helper()
	files, err := r.render()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.MkdirAll(filepath.Join(dir, plotsDir), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, b := range files {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, got := range files {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatalf("%v (-update writes it)", err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-file +rendered; -update writes it):\n%s", name, diff)
		}
		if strings.HasSuffix(name, ".svg") {
			checkXML(t, name, got)
		}
	}
	plots, err := filepath.Glob(filepath.Join(dir, plotsDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plots {
		if name := plotsDir + "/" + filepath.Base(p); files[name] == nil {
			t.Errorf("%s is left over: there are %v", name, slices.Collect(maps.Keys(files)))
		}
	}
}

// checkXML wants b well formed, without NaN and the like in it.
func checkXML(t *testing.T, name string, b []byte) {
	t.Helper()
	dec := xml.NewDecoder(bytes.NewReader(b))
	for {
		_, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{"NaN", "Inf", `height="-`, `width="-`} {
		if bytes.Contains(b, []byte(bad)) {
			t.Errorf("%s has %s", name, bad)
		}
	}
}

func TestNumber(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 5: "5", 1.2345: "1.23", 12.345: "12.3", 123.45: "123", 12345.6: "12346", -1.234: "-1.23", -123.4: "-123", 9.999: "10.00"} {
		if got := number(x); got != want {
			t.Errorf("%g: got %s, want %s", x, got, want)
		}
	}
}

func TestScale(t *testing.T) {
	for _, tt := range []struct{ high, step, limit float64 }{
		{0, 1, 1}, {1, 0.2, 1.2}, {94, 10, 100}, {95, 20, 120}, {1743, 500, 2000}, {2000, 500, 2500}, {7, 1, 8}, {0.05, 0.01, 0.06},
	} {
		step, limit := scale(tt.high)
		if diff := step - tt.step; diff > 1e-9 || diff < -1e-9 {
			t.Errorf("%g: step %g, want %g", tt.high, step, tt.step)
		}
		if diff := limit - tt.limit; diff > 1e-9 || diff < -1e-9 {
			t.Errorf("%g: limit %g, want %g", tt.high, limit, tt.limit)
		}
	}
}

// TestLinks compares the links with what the emulator's own page says of them.
func TestLinks(t *testing.T) {
	b, err := os.ReadFile("../linkemu/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range Links() {
		found := false
		for line := range strings.Lines(string(b)) {
			f := strings.Split(line, "|")
			if len(f) < 4 || !strings.HasPrefix(strings.TrimSpace(f[1]), l.Name+" ") {
				continue
			}
			found = true
			rtt, err := time.ParseDuration(strings.ReplaceAll(strings.TrimSpace(f[2]), " ", ""))
			if err != nil || rtt != l.RTT {
				t.Errorf("link %s: round trip time %v, %v; we say %v", l.Name, rtt, err, l.RTT)
			}
			if rate := strings.TrimSpace(f[3]); !strings.Contains(l.Text, rate) {
				t.Errorf("link %s: rate %s; we say %s", l.Name, rate, l.Text)
			}
		}
		if !found {
			t.Errorf("link %s is not there", l.Name)
		}
	}
}

func TestNewRun(t *testing.T) {
	r, err := NewRun(t.Context(), "make x")
	if err != nil {
		t.Skipf("no repository here: %v", err)
	}
	if r.Commit == "" || r.CPU == "" || r.Cores < 1 || r.Kernel == "" || !strings.HasPrefix(r.Go, "go") || r.Command != "make x" {
		t.Errorf("something is missing: %+v", r)
	}
}

func TestCPUModel(t *testing.T) {
	if got := cpuModel("processor\t: 0\nmodel\t\t: 2\nmodel name\t: Some: CPU\n"); got != "Some: CPU" {
		t.Errorf("got %q", got)
	}
	if got := cpuModel("Features: fp\n"); got == "" {
		t.Error("a machine that names no model has no name at all")
	}
}
