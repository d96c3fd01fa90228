package cgroup2

import (
	"bytes"
	"context"
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-io/skerry/tests/box"
)

//go:embed box.sh
var script []byte

// TestPods passes when all tests of edgeagent/pods against a real runtime do, with groups
// that systemd makes and with groups that the agent and runc make.
func TestPods(t *testing.T) {
	if os.Getenv("SKERRY_E2E") == "" {
		t.Skip("needs root and minutes: SKERRY_E2E=1")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	kernel, err := exec.CommandContext(ctx, "../../.ci/kernel").Output()
	if err != nil {
		t.Fatalf("fetch a kernel: %v", err)
	}
	dir := prepare(t)
	machine := exec.CommandContext(ctx, filepath.Join(dir, "box.sh"), "outer", dir, strings.TrimSpace(string(kernel)))
	machine.Cancel = func() error { return machine.Process.Signal(syscall.SIGTERM) }
	machine.WaitDelay = 10 * time.Second
	out, err := machine.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !bytes.Contains(out, []byte("the tests have ended with status 0")) {
		console, _ := os.ReadFile(filepath.Join(dir, "console.log"))
		t.Errorf("%v; the machine's console:\n%s", err, console[max(0, len(console)-8<<10):])
	}
	for _, name := range []string{"RunAndExit", "Features", "LostSandbox", "Users", "UsersRefusedMemory", "AppArmor", "HugePages"} {
		if n := bytes.Count(out, []byte("--- PASS: TestReal"+name+" ")); n != 2 {
			t.Errorf("TestReal%s has passed %d times, want it by systemd's groups and by our own", name, n)
		}
	}
}

// prepare fills a directory with all that the machine needs.
func prepare(t *testing.T) string {
	t.Helper()
	byFile := box.NewerConfig
	bySystemd := strings.ReplaceAll(byFile, "SystemdCgroup = false", "SystemdCgroup = true")
	if bySystemd == byFile {
		t.Fatal("the configuration does not say who makes groups")
	}
	dir := box.Prepare(t, script, bySystemd, map[string]string{"units.test": "edgeagent/pods/cgroups/systemd", "pods.test": "edgeagent/pods"})
	box.Newer(t, dir)
	if err := os.Rename(filepath.Join(dir, "config.toml"), filepath.Join(dir, "systemd.toml")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroupfs.toml"), []byte(strings.ReplaceAll(byFile, "%[1]s", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
