package box

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// NewerConfig is of the containerd that Newer gives, for Prepare. It leaves to the first
// runc in PATH what a pod runs by.
const NewerConfig = `version = 3
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

// Newer puts into the directory bin of dir the containerd, the shim and the runc that
// .ci/tool builds, years newer than Debian's. The caller's package is two below the
// module's root.
func Newer(t *testing.T, dir string) {
	t.Helper()
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
}
