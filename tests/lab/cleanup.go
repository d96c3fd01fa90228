package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (l *Lab) cgroupRoot() string  { return "/skerry-" + l.cfg.Name }
func (e *Edge) cgroupRoot() string { return e.lab.cgroupRoot() + "/" + e.Name }

// hierarchies are the cgroup trees of this machine: one for each controller
// with version 1, one for all with version 2.
func hierarchies() []string {
	const root = "/sys/fs/cgroup"
	if exists(root + "/cgroup.controllers") {
		return []string{root}
	}
	dirs, err := filepath.Glob(root + "/*")
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(dirs, func(d string) bool { return !exists(d + "/cgroup.procs") })
}

// makeCgroups makes a cgroup in each hierarchy. With version 1 a new cpuset is
// empty and takes no process until it is filled.
func makeCgroups(path string) error {
	for _, h := range hierarchies() {
		dir := h
		for elem := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
			parent := dir
			dir = filepath.Join(dir, elem)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("cgroup: %w", err)
			}
			if filepath.Base(h) != "cpuset" {
				continue
			}
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				if err := inherit(parent, dir, file); err != nil {
					return fmt.Errorf("cgroup: %w", err)
				}
			}
		}
	}
	return nil
}

func inherit(parent, dir, file string) error {
	b, err := os.ReadFile(filepath.Join(parent, file))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, file), b, 0o600)
}

// killCgroup kills all processes of a lab's cgroup. Nothing but its containers
// can be there, since the lab has made it.
func killCgroup(ctx context.Context, path string) error {
	return Until(ctx, 20*time.Second, "end of the processes in cgroup "+path, func() error {
		pids, err := cgroupProcesses(path)
		if err != nil {
			return Final(err)
		}
		if len(pids) == 0 {
			return nil
		}
		return killAll(pids)
	})
}

// cgroupDirs are the folders of a cgroup and those below it, deepest first.
func cgroupDirs(path string) ([]string, error) {
	var dirs []string
	for _, h := range hierarchies() {
		err := filepath.WalkDir(filepath.Join(h, path), func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Reverse(dirs)
	return dirs, nil
}

func cgroupProcesses(path string) ([]int, error) {
	dirs, err := cgroupDirs(path)
	var pids []int
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue // removed meanwhile
		}
		for field := range strings.FieldsSeq(string(b)) {
			pid, err := strconv.Atoi(field)
			if err == nil && pid > 1 && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids, err
}

// removeCgroups removes a cgroup with all below it, once its processes are gone.
func removeCgroups(ctx context.Context, path string) error {
	return Until(ctx, 10*time.Second, "removal of cgroup "+path, func() error {
		dirs, err := cgroupDirs(path)
		for _, dir := range dirs {
			if rmErr := os.Remove(dir); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
				err = errors.Join(err, rmErr)
			}
		}
		return err
	})
}

// unmountBelow undoes all mounts below dir, the last one first. A mount that is
// busy is detached, since whatever held it has been killed before.
func unmountBelow(ctx context.Context, dir string) error {
	return Until(ctx, 10*time.Second, "the mounts below "+dir, func() error {
		points, err := mountsBelow(dir)
		if err != nil {
			return Final(err)
		}
		if len(points) == 0 {
			return nil
		}
		for _, p := range points {
			if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("unmount %s: %w", p, err)
			}
		}
		return errors.New("looking once more")
	})
}

// mountsBelow lists mount points below dir, the last mounted first.
func mountsBelow(dir string) ([]string, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	return parseMounts(string(b), dir), nil
}

func parseMounts(mounts, dir string) []string {
	var points []string
	// The kernel writes these characters of a path as octal numbers.
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if p := unescape.Replace(f[1]); strings.HasPrefix(p, dir+"/") {
			points = append(points, p)
		}
	}
	slices.Reverse(points)
	return points
}

// makeMemoryCgroup makes a cgroup whose processes may use limit bytes of memory, and
// returns its folder in the hierarchy that has memory.
func makeMemoryCgroup(path string, limit int64) (string, error) {
	if err := makeCgroups(path); err != nil {
		return "", err
	}
	for _, h := range hierarchies() {
		for _, file := range []string{"memory.max", "memory.limit_in_bytes"} {
			dir := filepath.Join(h, path)
			if exists(filepath.Join(dir, file)) {
				return dir, os.WriteFile(filepath.Join(dir, file), []byte(strconv.FormatInt(limit, 10)), 0o600)
			}
		}
	}
	return "", errors.New("no cgroup hierarchy of this machine limits memory")
}
