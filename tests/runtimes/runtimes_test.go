package runtimes

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/tests/image"
)

//go:embed box.sh
var box []byte

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

const network = `{"cniVersion": "0.4.0", "name": "box", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "%[1]s/ipam", "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
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
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // root of a pod is nobody, and has to find its files
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, data []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := image.Busybox(t.Context(), "docker.io/library/busybox:test", "/bin/sleep", "1000000") // for sandboxes, too
	if err != nil {
		t.Fatal(err)
	}
	write("box.sh", box)
	write("config.toml", fmt.Appendf(nil, containerdConfig, dir))
	write("cni/10-box.conflist", fmt.Appendf(nil, network, dir))
	write("busybox.tar", archive)
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
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-trimpath", "-buildvcs=false", "-tags=grpcnotrace",
		"-o", filepath.Join(dir, "pods.test"), "github.com/skerry-io/skerry/edgeagent/pods")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as all else is built
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return dir
}
