package cgroups

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A temp dir stands for the kernel's file system: the tests check which files
// are written where, not what the kernel makes of them.

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestEnsureV1InheritsCpuset(t *testing.T) {
	mount := t.TempDir()
	for _, h := range []string{"cpuset", "memory", "unified"} {
		write(t, filepath.Join(mount, h, "cgroup.procs"), "")
	}
	write(t, filepath.Join(mount, "cpuset/cpuset.cpus"), "0-3\n")
	write(t, filepath.Join(mount, "cpuset/cpuset.mems"), "0\n")
	// What the kernel would make with the directories.
	for _, d := range []string{"kubepods", "kubepods/burstable", "kubepods/burstable/podu1"} {
		write(t, filepath.Join(mount, "cpuset", d, "cpuset.cpus"), "\n")
		write(t, filepath.Join(mount, "cpuset", d, "cpuset.mems"), "\n")
	}
	write(t, filepath.Join(mount, "memory/kubepods/burstable/podu1/memory.limit_in_bytes"), "-1")
	tree, err := Open(mount)
	if err != nil {
		t.Fatal(err)
	}
	if tree.Unified() {
		t.Fatal("v1 taken for v2")
	}
	if err := tree.Ensure("/kubepods/burstable/podu1", Limits{MemoryLimit: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(filepath.Join(mount, "cpuset/kubepods/burstable/podu1/cpuset.cpus"))
	if strings.TrimSpace(string(got)) != "0-3" {
		t.Errorf("cpuset.cpus = %q, want the parent's", got)
	}
	got, _ = os.ReadFile(filepath.Join(mount, "memory/kubepods/burstable/podu1/memory.limit_in_bytes"))
	if string(got) != "1048576" {
		t.Errorf("memory limit = %q", got)
	}
	if _, err := os.Stat(filepath.Join(mount, "unified/kubepods")); err == nil {
		t.Error("wrote into the unified half of a hybrid setup")
	}
	if _, err := os.Stat(filepath.Join(mount, "memory/kubepods/cpu.shares")); err == nil {
		t.Error("made a file that the hierarchy does not have")
	}
}

func TestEnsureV2(t *testing.T) {
	mount := t.TempDir()
	write(t, filepath.Join(mount, "cgroup.controllers"), "cpu memory rdma")
	write(t, filepath.Join(mount, "cgroup.subtree_control"), "")
	write(t, filepath.Join(mount, "k/cgroup.controllers"), "cpu memory")
	write(t, filepath.Join(mount, "k/pod1/cpu.weight"), "")
	write(t, filepath.Join(mount, "k/pod1/cpu.max"), "")
	tree, err := Open(mount)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Ensure("k/pod1", Limits{CPUShares: 1024, CPUQuota: 50000, CPUPeriod: 100000}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"cpu.weight": "39", "cpu.max": "50000 100000"} {
		if got, _ := os.ReadFile(filepath.Join(mount, "k/pod1", file)); string(got) != want {
			t.Errorf("%s = %q, want %q", file, got, want)
		}
	}
}

// TestUnbounded gives a group back what a new one has.
func TestUnbounded(t *testing.T) {
	for version, files := range map[string]map[string]string{
		"v1": {"cpu/k/cpu.shares": "1024", "cpu/k/memory.limit_in_bytes": "-1", "cpu/k/pids.max": "max", "cpu/k/cpu.cfs_quota_us": "-1"},
		"v2": {"k/cpu.weight": "100", "k/memory.max": "max", "k/pids.max": "max", "k/cpu.max": "max"},
	} {
		mount := t.TempDir()
		if version == "v1" {
			write(t, filepath.Join(mount, "cpu/cgroup.procs"), "")
		} else {
			write(t, filepath.Join(mount, "cgroup.controllers"), "")
		}
		for file := range files {
			write(t, filepath.Join(mount, file), "77")
		}
		tree, err := Open(mount)
		if err == nil {
			err = tree.Ensure("/k", Limits{CPUShares: Unbounded, CPUQuota: Unbounded, MemoryLimit: Unbounded, PIDs: Unbounded})
		}
		if err != nil {
			t.Fatal(err)
		}
		for file, want := range files {
			if got, _ := os.ReadFile(filepath.Join(mount, file)); string(got) != want {
				t.Errorf("%s: %s = %q, want %q", version, file, got, want)
			}
		}
	}
}

func TestRemoveGone(t *testing.T) {
	mount := t.TempDir()
	write(t, filepath.Join(mount, "cpu/cgroup.procs"), "")
	tree, err := Open(mount)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(mount, "cpu/k/pod1/c1"), 0o755); err != nil {
		t.Fatal(err)
	}
	names, err := tree.Children("k")
	if err != nil || len(names) != 1 || names[0] != "pod1" {
		t.Errorf("Children = %v, %v", names, err)
	}
	for range 2 {
		if err := tree.Remove("k/pod1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(mount, "cpu/k/pod1")); err == nil {
		t.Error("still there")
	}
}
