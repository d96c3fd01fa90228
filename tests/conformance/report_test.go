package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ginkgoReport has a test of each outcome, one that a filter left out, and the steps
// before all tests.
const ginkgoReport = `[{"SpecReports": [
 {"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed", "RunTime": 5},
 {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "should run", "State": "passed", "RunTime": 2000000000},
 {"ContainerHierarchyTexts": ["[sig-node] Pods", "when old"], "LeafNodeType": "It", "LeafNodeText": "should end", "State": "failed", "RunTime": 3000000000, "Failure": {"Message": "too\n  late"}},
 {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "should hang", "State": "interrupted", "RunTime": 1000000000},
 {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "should fit", "State": "skipped", "RunTime": 1000000000, "Failure": {"Message": "no such node"}},
 {"ContainerHierarchyTexts": ["[sig-apps] Job"], "LeafNodeType": "It", "LeafNodeText": "should not be here", "State": "skipped", "RunTime": 0}
]}]`

func specsOf(t *testing.T, report string) []spec {
	t.Helper()
	file := filepath.Join(t.TempDir(), reportFile)
	if err := os.WriteFile(file, []byte(report), 0o600); err != nil {
		t.Fatal(err)
	}
	specs, err := readReport(file)
	if err != nil {
		t.Fatal(err)
	}
	return specs
}

func TestReadReport(t *testing.T) {
	want := []spec{
		{name: "[sig-node] Pods should run", passed: true, took: 2 * time.Second},
		{name: "[sig-node] Pods when old should end", failure: "failed: too late", took: 3 * time.Second},
		{name: "[sig-node] Pods should hang", failure: "interrupted: ", took: time.Second},
		{name: "[sig-node] Pods should fit", failure: "skipped: no such node", took: time.Second},
	}
	if d := cmp.Diff(want, specsOf(t, ginkgoReport), cmp.AllowUnexported(spec{})); d != "" {
		t.Error(d)
	}
	// Before the first test nothing has a name, and a failure there is the only one.
	broken := `[{"SpecReports": [{"LeafNodeType": "SynchronizedBeforeSuite", "State": "failed", "Failure": {"Message": "no node"}}]}]`
	if got := specsOf(t, broken); len(got) != 1 || got[0].passed || got[0].name != "SynchronizedBeforeSuite" {
		t.Errorf("%+v", got)
	}
}

func TestJudge(t *testing.T) {
	specs := specsOf(t, ginkgoReport)
	listed := []string{"[sig-node] Pods should run", "[sig-node] Pods when old should end", "[sig-node] Pods should not be forgotten"}
	v := judge(listed, listed, specs)
	if v.ran != 2 || v.passed != 1 || len(v.failed) != 1 || v.others != 2 || v.worked != 0 {
		t.Errorf("%+v", v)
	}
	if d := cmp.Diff(listed[2:], v.missing); d != "" {
		t.Error(d)
	}
	var out strings.Builder
	v.print(&out)
	for _, want := range []string{"1 of 2 passed; the list of what the kubelet passes has 3", "failed: too late", "have not run:\n  " + listed[2]} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if err := v.err(options{label: nodeLabels}); err == nil || !strings.Contains(err.Error(), "2 tests") {
		t.Errorf("error %v", err)
	}
	// What fails counts though it is not on the list, if it was chosen; and nothing that
	// runs is no success.
	for name, tt := range map[string]struct {
		v    verdict
		o    options
		want bool
	}{
		"others fail beside":    {verdict{ran: 1, passed: 1, others: 1, refused: make([]spec, 1)}, options{label: nodeLabels}, false},
		"others that are meant": {verdict{others: 1, refused: make([]spec, 1)}, options{label: nodeLabels, focus: "x"}, true},
		"nothing":               {verdict{}, options{label: "x"}, true},
		"all good":              {verdict{others: 1, worked: 1}, options{label: "x"}, false},
	} {
		if err := tt.v.err(tt.o); (err != nil) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Where a filter chooses, nothing is missing.
	if v := judge(listed, nil, specs); len(v.missing) != 0 {
		t.Errorf("missing %q", v.missing)
	}
	rows := v.rows("B")
	if len(rows) != 2 || rows[0].Median != 1 || rows[1].Median != 2 || rows[0].Link != "B" {
		t.Errorf("%+v", rows)
	}
}

// What -short leaves out is on the list, and of each group of the list it runs some.
func TestLists(t *testing.T) {
	listed, slow := names(nodeText), names(slowText)
	if len(listed) != 141 || !slices.IsSorted(listed) {
		t.Errorf("%d names, sorted: %t", len(listed), slices.IsSorted(listed))
	}
	groups := map[string]bool{}
	for _, name := range listed {
		g := strings.Join(strings.Fields(name)[:2], " ")
		groups[g] = groups[g] || !slices.Contains(slow, name)
	}
	for g, some := range groups {
		if !some {
			t.Errorf("-short runs none of %s", g)
		}
	}
	for _, name := range slow {
		if !slices.Contains(listed, name) {
			t.Errorf("%q is on the list of slow tests alone", name)
		}
	}
	if n := len(expected(options{short: true, label: nodeLabels}, listed, slow)); n != len(listed)-len(slow) {
		t.Errorf("-short runs %d", n)
	}
	if expected(options{label: nodeLabels, focus: "x"}, listed, slow) != nil {
		t.Error("a focus expects tests")
	}
}

func TestFlags(t *testing.T) {
	for _, bad := range [][]string{{"-link", "F"}, {"-procs", "0"}, {"-minutes", "0"}, {"-slot", "4"}, {"more"}, {"-wrong"}} {
		if _, err := parseFlags(bad, io.Discard); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	o, err := parseFlags([]string{"-link", "B"}, io.Discard)
	if err != nil || !o.whole() || o.link != "B" {
		t.Errorf("%+v, %v", o, err)
	}
}
