package main

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/bench/results"
)

// reportFile is ginkgo's report.
const reportFile = "report.json"

var (
	// nodeText are the tests that the kubelet of the same version passes: all that
	// have the labels of nodeLabels.
	//
	//go:embed nodeconformance.txt
	nodeText string
	// slowText are those of them that -short leaves out.
	//
	//go:embed slow.txt
	slowText string
)

// names are the lines of a list.
func names(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

// spec is a test that has run.
type spec struct {
	name    string
	passed  bool
	failure string // one line
	took    time.Duration
}

// readReport reads the tests that have run from ginkgo's report. What a filter left
// out is in the report too, as skipped before it ran.
func readReport(file string) ([]spec, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var suites []struct {
		SpecReports []struct {
			ContainerHierarchyTexts    []string
			LeafNodeType, LeafNodeText string
			State                      string
			RunTime                    time.Duration
			Failure                    struct{ Message string }
		}
	}
	if err := json.Unmarshal(b, &suites); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var specs []spec
	for _, s := range suites {
		for _, r := range s.SpecReports {
			failed := r.State != "passed" && r.State != "skipped" && r.State != "pending"
			// What runs before all tests has no name; that it failed must be seen.
			if r.LeafNodeType != "It" && !failed || r.State == "pending" || r.State == "skipped" && r.RunTime == 0 {
				continue
			}
			message := strings.Join(strings.Fields(r.Failure.Message), " ")
			if r.State != "passed" {
				message = r.State + ": " + message
			}
			name := strings.Join(append(r.ContainerHierarchyTexts, r.LeafNodeText), " ")
			specs = append(specs, spec{
				name: cmp.Or(strings.TrimSpace(name), r.LeafNodeType), passed: r.State == "passed", failure: message, took: r.RunTime,
			})
		}
	}
	return specs, nil
}

// verdict compares what ran with the list.
type verdict struct {
	listed         int // tests of the list
	ran, passed    int // of those, how many ran and passed
	failed         []spec
	missing        []string // must have run
	others, worked int      // tests that ran and are not on the list; how many of them passed
	refused        []spec   // the other of these
	slowest        []spec
}

func judge(listed, expected []string, specs []spec) verdict {
	v := verdict{listed: len(listed)}
	ran := map[string]bool{}
	for _, s := range specs {
		ran[s.name] = true
		on := slices.Contains(listed, s.name)
		switch {
		case on && s.passed:
			v.passed++
		case on:
			v.failed = append(v.failed, s)
		case s.passed:
			v.worked++
		default:
			v.refused = append(v.refused, s)
		}
		if on {
			v.ran++
		} else {
			v.others++
		}
	}
	for _, name := range expected {
		if !ran[name] {
			v.missing = append(v.missing, name)
		}
	}
	v.slowest = slices.SortedFunc(slices.Values(specs), func(a, b spec) int { return cmp.Compare(b.took, a.took) })
	v.slowest = v.slowest[:min(5, len(v.slowest))]
	return v
}

// print tells the outcome.
func (v verdict) print(out io.Writer) {
	for _, group := range []struct {
		title string
		specs []spec
	}{{"failed, though the kubelet passes them", v.failed}, {"failed, not on the list", v.refused}} {
		if len(group.specs) > 0 {
			fmt.Fprintf(out, "\n%s:\n", group.title)
		}
		for _, s := range group.specs {
			fmt.Fprintf(out, "  %s (%.0f s)\n      %s\n", s.name, s.took.Seconds(), shorten(s.failure, 300))
		}
	}
	if len(v.missing) > 0 {
		fmt.Fprintf(out, "\nhave not run:\n  %s\n", strings.Join(v.missing, "\n  "))
	}
	if len(v.slowest) > 0 {
		fmt.Fprint(out, "\nslowest:\n")
	}
	for _, s := range v.slowest {
		fmt.Fprintf(out, "  %4.0f s  %s\n", s.took.Seconds(), s.name)
	}
	fmt.Fprintf(out, "\n%d of %d passed; the list of what the kubelet passes has %d\n", v.passed, v.ran, v.listed)
	if v.others > 0 {
		fmt.Fprintf(out, "of %d tests that are not on the list %d passed\n", v.others, v.worked)
	}
}

func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "..."
	}
	return s
}

// rows are the figures that are kept.
func (v verdict) rows(link string) []results.Row {
	row := func(metric string, n int) results.Row {
		return results.Row{
			Bench: "conformance", Link: link, System: "skerry", Metric: metric, Unit: "tests",
			Median: float64(n), Min: float64(n), Max: float64(n), N: 1,
		}
	}
	return []results.Row{row("nodeconformance_passed", v.passed), row("nodeconformance_run", v.ran)}
}
