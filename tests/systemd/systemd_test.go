package systemd

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
	"github.com/skerry-io/skerry/tests/box"
)

//go:embed box.sh
var script []byte

const containerdConfig = `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "%[1]s/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/busybox:test"
  stream_server_address = "127.0.0.1"
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%[1]s/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true
`

// TestPods passes when all tests of edgeagent/pods against a real runtime do.
func TestPods(t *testing.T) {
	if os.Getenv("SKERRY_E2E") == "" {
		t.Skip("needs root and minutes: SKERRY_E2E=1")
	}
	if _, err := os.Stat("/sys/fs/cgroup/systemd/cgroup.procs"); err != nil {
		t.Skip("needs the hierarchies of cgroup v1")
	}
	dir := box.Prepare(t, script, containerdConfig, map[string]string{"units.test": "edgeagent/pods/cgroups/systemd", "pods.test": "edgeagent/pods"})
	path := filepath.Join(dir, "box.sh")
	machine := exec.Command(path, "outer", dir)
	machine.Stdout, machine.Stderr = os.Stderr, os.Stderr
	if err := machine.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tearDown(t, machine, path, dir) })
	pid := initOf(t, machine.Process.Pid)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	inner := exec.CommandContext(ctx, "nsenter", "-t", pid, "-m", "-C", "-p", "-i", "-u", "-n", path, "inner", dir)
	inner.WaitDelay = 10 * time.Second // what it has started may hold its output
	out, err := inner.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	if n := bytes.Count(out, []byte("--- PASS: TestReal")); n < 10 {
		t.Errorf("%d tests ran", n)
	}
}

// initOf waits for systemd, the child of unshare, to listen.
func initOf(t *testing.T, unshare int) string {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		<-time.After(200 * time.Millisecond)
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", unshare, unshare))
		if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
			if _, err := os.Stat(filepath.Join("/proc", pid, "root", cgroups.SystemdSocket)); err == nil {
				return pid
			}
		}
	}
	t.Fatal("systemd does not come up")
	return ""
}

// tearDown ends the machine, with which all its processes go, and removes its groups.
func tearDown(t *testing.T, machine *exec.Cmd, script, dir string) {
	t.Helper()
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", machine.Process.Pid))
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
	_ = machine.Wait()
	if out, err := exec.Command(script, "clean", dir).CombinedOutput(); err != nil {
		t.Errorf("groups are left: %v: %s", err, out)
	}
}
