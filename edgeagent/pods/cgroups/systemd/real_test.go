package systemd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// realEnv says that the process is on a machine, or in namespaces, whose systemd the
// tests may give slices to: see tests/systemd.
const realEnv = "SKERRY_SYSTEMD_TEST"

func realGroups(t *testing.T) *Groups {
	t.Helper()
	if os.Getenv(realEnv) == "" {
		t.Skip(realEnv + " is not set")
	}
	tree, err := cgroups.Open("/sys/fs/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	return New(tree, "")
}

// value reads a file of a group: on v1 that of the hierarchy that has it.
func value(t *testing.T, group, v1, v2 string) string {
	t.Helper()
	pattern := filepath.Join("/sys/fs/cgroup", group, v2)
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		pattern = filepath.Join("/sys/fs/cgroup/*", group, v1)
	}
	files, _ := filepath.Glob(pattern)
	if len(files) == 0 {
		return "no " + pattern
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(string(b))
}

func systemctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "systemctl", args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemctl %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestRealSlices(t *testing.T) {
	g := realGroups(t)
	layout := cgroups.Layout{Root: "/skerry-unit", Driver: cgroups.Systemd}
	root, pod := layout.Group(), layout.Pod("burstable", "0b5c2b6e-3c3c-4c6a-9d4d-2f5a5b1c7f10")
	unit := filepath.Base(pod)
	defer func() {
		if err := g.Remove(root); err != nil {
			t.Error(err)
		}
	}()
	limits := cgroups.Limits{CPUShares: 512, CPUQuota: 33300, CPUPeriod: 100000, MemoryLimit: 64 << 20, PIDs: 77}
	for range 2 { // what is there stays
		if err := g.Ensure(pod, limits); err != nil {
			t.Fatal(err)
		}
	}
	check := func(quota, memory, pids, weight string) {
		t.Helper()
		if g.Unified() {
			quota += " 100000"
		}
		for _, c := range []struct{ got, want string }{
			{value(t, pod, "cpu.cfs_quota_us", "cpu.max"), quota},
			{value(t, pod, "memory.limit_in_bytes", "memory.max"), memory},
			{value(t, pod, "pids.max", "pids.max"), pids},
			{value(t, pod, "cpu.shares", "cpu.weight"), weight},
		} {
			if c.got != c.want {
				t.Errorf("got %s, want %s", c.got, c.want)
			}
		}
	}
	weight := func(shares int64) string {
		if g.Unified() {
			return strconv.FormatInt(cgroups.Weight(shares), 10)
		}
		return strconv.FormatInt(shares, 10)
	}
	check("33300", "67108864", "77", weight(512))
	// What systemd reads again is the same, but for what it rounds.
	systemctl(t, "daemon-reload")
	systemctl(t, "set-property", "--runtime", unit, "CPUAccounting=yes")
	if err := g.Ensure(layout.Pod("", "7f10"), cgroups.Limits{}); err != nil {
		t.Fatal(err)
	}
	check("34000", "67108864", "77", weight(512))
	if got := systemctl(t, "is-active", unit, filepath.Base(root)); got != "active\nactive" {
		t.Errorf("units are %q", got)
	}
	// A resize, and no limit at all.
	if err := g.Ensure(pod, cgroups.Limits{CPUShares: 1024, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 32 << 20}); err != nil {
		t.Fatal(err)
	}
	systemctl(t, "daemon-reload")
	check("50000", "33554432", "77", weight(1024))
	if err := g.Ensure(root, cgroups.Limits{CPUShares: cgroups.Unbounded, MemoryLimit: cgroups.Unbounded, PIDs: cgroups.Unbounded}); err != nil {
		t.Fatal(err)
	}

	// What runs in it ends with it.
	forgotten := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := forgotten.Start(); err != nil {
		t.Fatal(err)
	}
	for _, r := range roots(t) {
		err := os.WriteFile(filepath.Join(r, pod, "cgroup.procs"), []byte(strconv.Itoa(forgotten.Process.Pid)), 0o600)
		// Which devices there are systemd says for units that have any rule, and only these.
		if err != nil && filepath.Base(r) != "devices" {
			t.Error(err)
		}
	}
	for range 2 {
		if err := g.Remove(pod, layout.Pod("", "7f10"), layout.Pod("", "absent")); err != nil {
			t.Fatal(err)
		}
	}
	_ = forgotten.Wait()
	if st, ok := forgotten.ProcessState.Sys().(syscall.WaitStatus); !ok || st.Signal() != syscall.SIGKILL {
		t.Errorf("the process ended with %v", forgotten.ProcessState)
	}
	for _, r := range roots(t) {
		if _, err := os.Stat(filepath.Join(r, pod)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s/%s: %v", r, pod, err)
		}
	}
	if got := systemctl(t, "list-units", "--all", "--plain", "--no-legend", unit); got != "" {
		t.Errorf("systemd still knows %s", got)
	}
}

// TestRealSilence has one call after another while systemd has nothing else to do.
func TestRealSilence(t *testing.T) {
	g := realGroups(t)
	pod := cgroups.Layout{Root: "/skerry-silence", Driver: cgroups.Systemd}.Pod("", "1")
	for range 20 {
		if err := errors.Join(g.Ensure(pod, cgroups.Limits{CPUShares: 2}), g.Remove(pod)); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Remove(filepath.Dir(pod)); err != nil {
		t.Error(err)
	}
}

func roots(t *testing.T) []string {
	t.Helper()
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}
	}
	all, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil || len(all) == 0 {
		t.Fatalf("no hierarchies: %v", err)
	}
	for i := range all {
		all[i] = filepath.Dir(all[i])
	}
	return all
}
