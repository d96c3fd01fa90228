// Package cgroups names, makes and removes the pods' parent control groups, in
// which the runtime puts sandboxes and containers. It knows both the v1 hierarchies
// and the unified v2 tree. Layout has the kubelet's names with either driver; Tree is
// the cgroupfs driver, and what package systemd builds on.
//
// All calls are idempotent: Ensure on a group that is there only sets its
// limits again, Remove of one that is gone succeeds.
package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Unbounded takes a limit off a group again, and gives it the weight of a new one.
const Unbounded = -1

// What new groups have.
const (
	newShares = 1024
	newWeight = 100
	noLimit   = "max"
)

// Limits are the settings of one group. Zero leaves what the kernel has. Shares,
// quota, memory and PIDs may be Unbounded.
type Limits struct {
	CPUShares   int64 // cgroup v1 scale, 2..262144
	CPUQuota    int64 // microseconds per CPUPeriod
	CPUPeriod   int64
	MemoryLimit int64
	// PIDs is how many processes and threads may be in it.
	PIDs int64
	// HugePages are bytes by size of page, such as 2MB. Here zero means none.
	HugePages map[string]uint64
}

// Tree is where control groups are mounted.
type Tree struct {
	unified string   // v2 mount, or empty
	v1      []string // one mount per v1 hierarchy
	hybrid  string   // v2 mount beside v1, where runc makes groups without limits
}

// Open finds the control groups mounted at mount, usually /sys/fs/cgroup.
func Open(mount string) (*Tree, error) {
	if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err == nil {
		return &Tree{unified: mount}, nil
	}
	entries, err := os.ReadDir(mount)
	if err != nil {
		return nil, fmt.Errorf("read cgroup mount: %w", err)
	}
	t := &Tree{}
	for _, e := range entries {
		dir := filepath.Join(mount, e.Name())
		// Aliases such as cpu -> cpu,cpuacct are symbolic links.
		if !e.IsDir() {
			continue
		}
		if e.Name() == "unified" {
			t.hybrid = dir
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			t.v1 = append(t.v1, dir)
		}
	}
	if len(t.v1) == 0 {
		return nil, fmt.Errorf("no control groups are mounted at %s", mount)
	}
	return t, nil
}

// Unified says whether this is cgroup v2.
func (t *Tree) Unified() bool { return t.unified != "" }

// Ensure makes the group at path, with all its parents, and sets its limits.
func (t *Tree) Ensure(path string, l Limits) error {
	if t.Unified() {
		return t.ensureV2(path, l)
	}
	for _, h := range t.v1 {
		if err := mkdirV1(h, path); err != nil {
			return fmt.Errorf("make cgroup %s: %w", path, err)
		}
		if err := setV1(filepath.Join(h, path), l); err != nil {
			return fmt.Errorf("set limits of cgroup %s: %w", path, err)
		}
	}
	return nil
}

// Remove removes the groups at paths with all groups below them. It kills what is
// still in them: processes that the runtime has forgotten, as when it died while it
// made them.
func (t *Tree) Remove(paths ...string) error {
	var errs []error
	for _, path := range paths {
		for _, r := range t.roots() {
			errs = append(errs, removeBusy(filepath.Join(r, path)))
		}
	}
	return errors.Join(errs...)
}

// Kill kills what is in the group at path and in those below it.
func (t *Tree) Kill(path string) error {
	var errs []error
	for _, r := range t.roots() {
		errs = append(errs, kill(filepath.Join(r, path)))
	}
	return errors.Join(errs...)
}

// Children lists the names of the groups directly below path.
func (t *Tree) Children(path string) ([]string, error) {
	seen := map[string]bool{}
	var out []string
	for _, r := range t.roots() {
		entries, err := os.ReadDir(filepath.Join(r, path))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list cgroup %s: %w", path, err)
		}
		for _, e := range entries {
			if e.IsDir() && !seen[e.Name()] {
				seen[e.Name()] = true
				out = append(out, e.Name())
			}
		}
	}
	return out, nil
}

// Has says whether the group at path is there.
func (t *Tree) Has(path string) bool {
	return slices.ContainsFunc(t.roots(), func(r string) bool { return exists(filepath.Join(r, path)) })
}

// roots are all places where a group may have been made.
func (t *Tree) roots() []string {
	switch {
	case t.Unified():
		return []string{t.unified}
	case t.hybrid != "":
		return append(slices.Clip(t.v1), t.hybrid)
	default:
		return t.v1
	}
}

// mkdirV1 makes path below one hierarchy. A new cpuset group has no CPUs and no
// memory nodes and refuses processes, so each level takes its parent's.
func mkdirV1(hierarchy, path string) error {
	dir := hierarchy
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		parent := dir
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			if err := inherit(parent, dir, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func inherit(parent, dir, file string) error {
	have, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not the cpuset hierarchy
	}
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(have)) != "" {
		return nil
	}
	want, err := os.ReadFile(filepath.Join(parent, file))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, file), want, 0o644)
}

func setV1(dir string, l Limits) error {
	if l.CPUShares < 0 {
		l.CPUShares = newShares
	}
	return errors.Join(
		setValue(dir, "cpu.shares", l.CPUShares),
		setValue(dir, "cpu.cfs_period_us", l.CPUPeriod),
		setValue(dir, "cpu.cfs_quota_us", l.CPUQuota),
		setValue(dir, "memory.limit_in_bytes", l.MemoryLimit),
		setPIDs(dir, l.PIDs),
		setHugePages(dir, l.HugePages, "limit_in_bytes"),
	)
}

func (t *Tree) ensureV2(path string, l Limits) error {
	dir := t.unified
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if err := delegate(dir); err != nil {
			return err
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	if l.CPUShares != 0 {
		if err := setValue(dir, "cpu.weight", Weight(l.CPUShares)); err != nil {
			return err
		}
	}
	if l.MemoryLimit < 0 {
		if err := setText(dir, "memory.max", noLimit); err != nil {
			return err
		}
		l.MemoryLimit = 0
	}
	if l.CPUQuota < 0 {
		if err := setText(dir, "cpu.max", noLimit); err != nil {
			return err
		}
	}
	if l.CPUQuota > 0 && l.CPUPeriod > 0 {
		if err := setText(dir, "cpu.max", fmt.Sprintf("%d %d", l.CPUQuota, l.CPUPeriod)); err != nil {
			return err
		}
	}
	return errors.Join(
		setValue(dir, "memory.max", l.MemoryLimit),
		setPIDs(dir, l.PIDs),
		setHugePages(dir, l.HugePages, "max"),
	)
}

// Weight is what cgroup v2 has for shares of v1: 2..262144 map linearly onto
// 1..10000.
func Weight(shares int64) int64 {
	if shares < 0 {
		return newWeight
	}
	return 1 + ((shares-2)*9999)/262142
}

func setPIDs(dir string, most int64) error {
	if most < 0 {
		return setText(dir, "pids.max", noLimit)
	}
	return setValue(dir, "pids.max", most)
}

func setHugePages(dir string, most map[string]uint64, file string) error {
	for size, bytes := range most {
		if err := setText(dir, "hugetlb."+size+"."+file, strconv.FormatUint(bytes, 10)); err != nil {
			return err
		}
	}
	return nil
}

// Memory is how many bytes the processes of the group at path use, what the kernel
// caches for them included.
func (t *Tree) Memory(path string) (uint64, error) {
	file := filepath.Join(t.unified, path, "memory.current")
	if !t.Unified() {
		file = ""
		for _, h := range t.v1 {
			if f := filepath.Join(h, path, "memory.usage_in_bytes"); exists(f) {
				file = f
			}
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read memory of cgroup %s: %w", path, err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read memory of cgroup %s: %w", path, err)
	}
	return n, nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// delegate passes the controllers on to the children of dir.
func delegate(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read cgroup controllers: %w", err)
	}
	for c := range strings.FieldsSeq(string(have)) {
		switch c {
		case "cpu", "cpuset", "memory", "pids", "io", "hugetlb":
			if err := setText(dir, "cgroup.subtree_control", "+"+c); err != nil {
				return err
			}
		}
	}
	return nil
}

// setValue writes a limit where the hierarchy has it.
func setValue(dir, file string, v int64) error {
	if v == 0 {
		return nil
	}
	return setText(dir, file, strconv.FormatInt(v, 10))
}

func setText(dir, file, v string) error {
	// No O_CREATE: a file that is missing belongs to another controller.
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(v)
	return errors.Join(err, f.Close())
}

// removeTree removes cgroup directories bottom up. Their files are the kernel's.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	// unlink of a cgroup file fails; only rmdir is allowed, so not os.RemoveAll.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	return nil
}
