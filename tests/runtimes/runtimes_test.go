package runtimes

import (
	"bytes"
	"context"
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/tests/box"
)

//go:embed box.sh
var script []byte

// containerdConfig leaves to the first runc in PATH what a pod runs by.
const containerdConfig = `version = 3
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
  address = "%[1]s/containerd.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "docker.io/library/busybox:test"
[plugins."io.containerd.cri.v1.runtime"]
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "%[1]s/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
`

// TestPods passes when all tests of edgeagent/pods against a real runtime do, those of
// users of a pod's own among them.
func TestPods(t *testing.T) {
	if os.Getenv("SKERRY_E2E") == "" {
		t.Skip("needs root and minutes: SKERRY_E2E=1")
	}
	dir := prepare(t)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	machine := exec.CommandContext(ctx, filepath.Join(dir, "box.sh"), "outer", dir)
	machine.Env = append(os.Environ(), "TESTS=^TestReal")
	machine.WaitDelay = 10 * time.Second
	out, err := machine.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	if n := bytes.Count(out, []byte("--- PASS: TestReal")); n < 10 {
		t.Errorf("%d tests ran", n)
	}
	if !bytes.Contains(out, []byte("--- PASS: TestRealUsers ")) {
		t.Error("no pod had users of its own")
	}
}

// prepare fills a directory with all that the machine needs.
func prepare(t *testing.T) string {
	t.Helper()
	dir := box.Prepare(t, script, containerdConfig, map[string]string{"pods.test": "edgeagent/pods"})
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"containerd", "containerd-shim-runc-v2", "runc"} {
		out, err := exec.CommandContext(t.Context(), "../../.ci/tool", tool).Output()
		if err != nil {
			t.Fatalf("build %s: %v", tool, err)
		}
		if err := os.Symlink(strings.TrimSpace(string(out)), filepath.Join(dir, "bin", tool)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
