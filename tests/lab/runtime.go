package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	cniBin = "/usr/lib/cni"
	// criNamespace is where containerd keeps what CRI clients make.
	criNamespace = "k8s.io"
)

func (e *Edge) socket() string { return e.socketPath("containerd", "containerd.sock") }

// CRISocket is the runtime's endpoint.
func (e *Edge) CRISocket() string { return "unix://" + e.socket() }

// StartRuntime starts the edge's containerd and sees that it has the images.
func (e *Edge) StartRuntime(ctx context.Context) error {
	if err := e.writeRuntimeConfig(); err != nil {
		return err
	}
	name := e.daemon("containerd")
	err := e.start(ctx, daemon{name: name, netns: e.netns(), args: []string{"containerd", "--config", e.Path("containerd", "config.toml")}})
	if err != nil {
		return err
	}
	err = e.lab.ready(ctx, name, 30*time.Second, func() error {
		_, err := e.Ctr(ctx, "version")
		return err
	})
	if err != nil {
		return err
	}
	return e.importImages(ctx)
}

// Ctr runs containerd's own client in the CRI namespace.
func (e *Edge) Ctr(ctx context.Context, args ...string) (string, error) {
	return e.lab.run(ctx, append([]string{"ctr", "-a", e.socket(), "-n", criNamespace}, args...)...)
}

func (e *Edge) writeRuntimeConfig() error {
	dir := e.Path("containerd")
	for _, sub := range []string{"root", "state", "cni", "ipam"} {
		if err := os.MkdirAll(e.Path("containerd", sub), 0o711); err != nil {
			return err
		}
	}
	adj, err := cannotLowerOOMScore()
	if err != nil {
		return err
	}
	config := fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "%[2]s"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "%[3]s"
  stream_server_address = "127.0.0.1"
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = %[4]t
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "%[5]s"
    conf_dir = "%[1]s/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "%[1]s/registries"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
    # A second name for the same, for what chooses a RuntimeClass.
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.test-handler]
      runtime_type = "io.containerd.runc.v2"
`, dir, e.socket(), PauseImage, adj, cniBin)
	network := fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "skerry", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "%s/ipam", "ranges": [[{"subnet": "%s"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`, dir, e.podCIDR())
	if err := os.WriteFile(e.Path("containerd", "cni", "10-skerry.conflist"), []byte(network), 0o600); err != nil {
		return err
	}
	if err := e.writeRegistry(); err != nil {
		return err
	}
	return os.WriteFile(e.Path("containerd", "config.toml"), []byte(config), 0o600)
}

// writeRegistry tells containerd where to find every registry. It looks at the file
// for each pull.
func (e *Edge) writeRegistry() error {
	file := e.Path("containerd", "registries", "_default", "hosts.toml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if e.lab.cfg.Registry == "" {
		err := os.Remove(file)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	text := fmt.Sprintf("server = \"http://%[1]s\"\n[host.\"http://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", e.lab.cfg.Registry)
	return os.WriteFile(file, []byte(text), 0o600)
}

// cannotLowerOOMScore tells whether CAP_SYS_RESOURCE is missing. Without it no
// process can be given a lower score than ours, and runc would end without
// saying so for each sandbox.
func cannotLowerOOMScore() (bool, error) {
	const capSysResource = 24
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			return caps&(1<<capSysResource) == 0, err
		}
	}
	return false, fmt.Errorf("/proc/self/status has no CapEff")
}

// Tasks are the ids of the tasks that run, sandboxes too.
func (e *Edge) Tasks(ctx context.Context) ([]string, error) {
	out, err := e.Ctr(ctx, "tasks", "ls")
	if err != nil {
		return nil, err
	}
	var ids []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "RUNNING" {
			ids = append(ids, f[0])
		}
	}
	return ids, nil
}

// Containers are the ids of all containers, running or not, sandboxes too.
func (e *Edge) Containers(ctx context.Context) ([]string, error) {
	out, err := e.Ctr(ctx, "containers", "ls", "-q")
	return strings.Fields(out), err
}

// KillTask kills the first process of a container, behind the agent's back.
func (e *Edge) KillTask(ctx context.Context, id string) error {
	_, err := e.Ctr(ctx, "tasks", "kill", "-s", "SIGKILL", id)
	return err
}

// removePods takes all containers away. Without a containerd that answers this
// is left to killCgroup and killStrays.
func (e *Edge) removePods(ctx context.Context) error {
	if _, ok := e.lab.PID(e.daemon("containerd")); !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := e.Ctr(ctx, "tasks", "ls", "-q")
	if err != nil {
		return nil // it hangs or ends: the killing that follows does it
	}
	for id := range strings.FieldsSeq(out) {
		if _, err := e.Ctr(ctx, "tasks", "rm", "--force", id); err != nil {
			e.lab.log.Debug("task left for later", "id", id, "err", err)
		}
	}
	return nil
}

// removeShimSockets removes what killed shims have left in /run.
func (e *Edge) removeShimSockets() error {
	files, err := filepath.Glob(e.Path("containerd", "state", "io.containerd.runtime.v2.task", "*", "*", "address"))
	for _, file := range files {
		b, readErr := os.ReadFile(file)
		socket, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "unix://")
		if readErr != nil || !ok || !strings.HasPrefix(socket, "/run/containerd/s/") {
			continue
		}
		if rmErr := os.Remove(socket); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}
	return err
}
