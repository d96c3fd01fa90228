package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLogsFollowSelected follows the logs of several pods in one kubectl.
func TestLogsFollowSelected(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	var want []string
	for i := range 3 {
		name := fmt.Sprintf("many-%d", i)
		p := newPod(ns, name, edge1,
			shell("a", "echo first; until [ -e /tmp/stop ]; do sleep 0.1; done; echo last; "+idle),
			shell("b", "echo beside; "+idle))
		p.Labels = map[string]string{"app": "many"}
		runPod(t, p)
		for _, line := range []string{"a] first", "a] last", "b] beside"} {
			want = append(want, "[pod/"+name+"/"+line)
		}
	}
	logs := join(t, client{}, "-n", ns, "logs", "-f", "-l", "app=many", "--all-containers", "--prefix", "--max-log-requests=10")
	defer func() { _ = logs.cmd.Process.Kill(); _ = logs.cmd.Wait() }()
	for i := range 3 {
		logs.until(t, fmt.Sprintf("[pod/many-%d/a] first\n", i))
	}
	for i := range 3 {
		kubectl(t, "-n", ns, "exec", fmt.Sprintf("many-%d", i), "-c", "a", "--", "touch", "/tmp/stop")
	}
	eventually(t, "all lines", func() error {
		got := strings.Split(strings.TrimSpace(logs.out.text()), "\n")
		if d := cmp.Diff(sorted(want), sorted(got)); d != "" {
			return fmt.Errorf("(-want +got):\n%s", d)
		}
		return nil
	})
}

// TestLogsOfOneStream asks for what a container wrote to one of its outputs. The
// API's own path for it is behind an alpha feature (PodLogsQuerySplitStreams).
func TestLogsOfOneStream(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	runPod(t, newPod(ns, "two", edge1, shell("main", "echo out; echo err >&2; "+idle)))
	path := "/api/v1/nodes/" + edge1.Name + "/proxy/containerLogs/" + ns + "/two/main?"
	for query, want := range map[string][]string{
		"stream=Stdout": {"out\n"}, "stream=Stderr": {"err\n"},
		"stream=All&tailLines=1&limitBytes=3": {"out", "err"}, // the runtime has a reader for each
	} {
		eventually(t, query, func() error {
			r := try(t, "get", "--raw", path+query)
			if !slices.Contains(want, r.out) {
				return fmt.Errorf("%s: got %q, %v, want one of %q", query, r.out, r.err, want) //nolint:errorlint // it may be nil
			}
			return nil
		})
	}
	for query, want := range map[string]string{
		"stream=Stdout&tailLines=1": "mutually exclusive",
		"stream=Both":               "not one of All, Stdout, Stderr",
		"limitBytes=0":              "less than 1",
	} {
		if r := try(t, "get", "--raw", path+query); r.err == nil || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: got %q, %q", query, r.out, r.stderr)
		}
	}
}
