package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/bench/results"
)

func TestParseMemory(t *testing.T) {
	got, err := parseMemory("Name:\tagent\nVmHWM:\t 99999 kB\nVmRSS:\t   45000 kB\nRssAnon:\t   15000 kB\nRssFile:\t 3 kB\n")
	if want := (memory{resident: 46.08, anonymous: 15.36}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "VmRSS:\t1 kB\n", "VmRSS:\tx kB\nRssAnon:\t1 kB\n", "xVmRSS:\t1 kB\nRssAnon:\t1 kB\n"} {
		if m, err := parseMemory(bad); err == nil {
			t.Errorf("got %+v of %q", m, bad)
		}
	}
	m, err := readMemory(os.Getpid())
	if err != nil || m.anonymous <= 0 || m.resident < m.anonymous {
		t.Errorf("got %+v, %v of this process", m, err)
	}
}

func TestParseFlags(t *testing.T) {
	o, err := parseFlags([]string{"-rounds", "3", "-total", "1m"}, io.Discard)
	if err != nil || o.rounds != 3 || o.total != time.Minute || o.out != "bench" {
		t.Errorf("got %+v, %v", o, err)
	}
	if all := []string{"latency", "memory", "throughput"}; !cmp.Equal(o.scenarios, all) {
		t.Errorf("without -run: %q", o.scenarios)
	}
	for _, bad := range [][]string{{"-rounds", "0"}, {"-loads", "0"}, {"more"}, {"-nosuch"}, {"-run", "all"}} {
		if _, err := parseFlags(bad, io.Discard); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// scripted is a bed whose kubectl and linkemu are shell scripts.
func scripted(t *testing.T, kubectl string) *bed {
	t.Helper()
	bin := t.TempDir()
	for program, script := range map[string]string{"kubectl": kubectl, "linkemu": `echo "$@" >>"$0.log"`} {
		//nolint:gosec // a program must be executable
		if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b, err := newBed(t.TempDir(), bin, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(b.edge.Path(), 0o700); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTime(t *testing.T) {
	const slow = `echo line; exec >&-; sleep 0.5`
	for _, tt := range []struct {
		name, kubectl string
		probe         probe
		low, high     time.Duration // 0: an error
	}{
		{"to the end", slow, probe{lines: 1}, 500 * time.Millisecond, time.Minute},
		{"to the first line", slow, probe{lines: 1, first: true}, 1, 400 * time.Millisecond},
		{"no line", `true`, probe{}, 1, time.Minute},
		{"any number", `printf ok`, probe{lines: -1}, 1, time.Minute},
		{"too few lines", `echo one`, probe{lines: 2}, 0, 0},
		{"a line too many", `echo one`, probe{}, 0, 0},
		{"an exit code", `echo one; exit 3`, probe{lines: 1}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			took, err := scripted(t, tt.kubectl).time(t.Context(), tt.probe)
			if (err != nil) != (tt.high == 0) || took < tt.low || took > tt.high {
				t.Errorf("took %v, %v; want %v to %v", took, err, tt.low, tt.high)
			}
		})
	}
}

func TestRounds(t *testing.T) {
	// Logs have a line too few, so each third command fails.
	b := scripted(t, `case "$*" in "logs bench") echo one;; logs*) echo x;; esac`)
	s := results.NewSamples(name)
	if err := rounds(t.Context(), b, s, 2, time.Now().Add(time.Hour), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, r := range s.Rows() {
		got[r.Link+" "+r.System+" "+r.Metric] = r.N
		if r.Metric == "failed_pct" && r.System == ours && (r.Max != 100 || r.Median != 0) {
			t.Errorf("failures over %s: %+v", r.Link, r)
		}
	}
	want := map[string]int{"- kubectl floor_ms": 10}
	for _, l := range results.Links() {
		for system, commands := range map[string]int{ours: 3, other: 1} {
			of := l.Name + " " + system + " "
			want[of+execMetric], want[of+"failed_pct"] = 2, 2*commands
			if l.Name != "A" {
				want[of+"exec_above_clean_rtt"] = 2
			}
		}
		want[l.Name+" skerry log_first_line_ms"] = 2
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values by link and metric (-want +got):\n%s", diff)
	}
	log, err := os.ReadFile(b.lab.Bin("linkemu.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range results.Links() {
		if n := strings.Count(string(log), "profile "+l.Name+"\n"); n != 3 {
			t.Errorf("link %s was visited %d times, want one to warm up and two", l.Name, n)
		}
	}
}

func TestRoundsEndInTime(t *testing.T) {
	b := scripted(t, `case "$*" in logs*) echo x;; esac`)
	s := results.NewSamples(name)
	if err := rounds(t.Context(), b, s, 50, time.Now(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Rows() {
		if r.Metric == "exec_true_ms" && r.N != 1 {
			t.Errorf("%d rounds, want the one that must be", r.N)
		}
	}
}
