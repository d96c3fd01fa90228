package eviction

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Disk is what a file system has. Zero totals are those of one that does not count.
type Disk struct {
	Total, Available   uint64
	Inodes, InodesFree uint64
	// Device tells file systems apart.
	Device uint64
}

// statfs measures the file system of a path.
func statfs(path string) (Disk, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return Disk{}, fmt.Errorf("statfs %s: %w", path, err)
	}
	d := Disk{
		Total: st.Blocks * uint64(st.Bsize), Available: st.Bavail * uint64(st.Bsize),
		Inodes: st.Files, InodesFree: st.Ffree,
	}
	var info syscall.Stat_t
	if syscall.Stat(path, &info) == nil {
		d.Device = uint64(info.Dev) //nolint:unconvert // 32 bits wide on MIPS
	}
	return d, nil
}

// machine reads what there is.
type machine struct {
	root     fs.FS
	disk     func(path string) (Disk, error)
	dataDir  string
	imageDir func(ctx context.Context) (string, error)
	log      *slog.Logger

	images    string      // the path that imageDir gave
	dedicated atomic.Bool // images have a file system of their own
}

// sample measures now. What can't be measured is left out.
func (m *machine) sample(ctx context.Context) Sample {
	out := Sample{}
	if total, available := m.memory(); total > 0 {
		out[MemoryAvailable] = observation(available, total)
	}
	if used, most := m.processes(); most > 0 {
		out[PIDAvailable] = observation(most-min(used, most), most)
	}
	data, err := m.disk(m.dataDir)
	if err != nil {
		m.log.Warn("disk can't be measured", "path", m.dataDir, "error", err)
	}
	out.add(data, NodeFSAvailable, NodeFSInodes)
	if m.imageDir == nil {
		return out
	}
	if m.images == "" {
		if m.images, err = m.imageDir(ctx); err != nil || m.images == "" {
			m.log.Debug("images' file system is not known", "error", err) // the node's conditions tell of the runtime
			return out
		}
	}
	images, err := m.disk(m.images)
	if err != nil {
		m.log.Warn("disk can't be measured", "path", m.images, "error", err)
		return out
	}
	// Kubelets apply the images' threshold to a file system that holds everything,
	// too. It is the higher one, at which they remove images.
	dedicated := images.Device == 0 || images.Device != data.Device
	m.dedicated.Store(dedicated)
	if dedicated {
		out.add(images, ImageFSAvailable, ImageFSInodes)
	}
	return out
}

func (s Sample) add(d Disk, bytes, inodes Signal) {
	if d.Total > 0 {
		s[bytes] = observation(d.Available, d.Total)
	}
	if d.Inodes > 0 {
		s[inodes] = observation(d.InodesFree, d.Inodes)
	}
}

func observation(available, capacity uint64) Observation {
	return Observation{int64(min(available, math.MaxInt64)), int64(min(capacity, math.MaxInt64))}
}

func (m *machine) text(path string) string {
	b, err := fs.ReadFile(m.root, path)
	if err != nil {
		return "" // not every machine has every file
	}
	return string(b)
}

// memory takes the kernel's own estimate of what can be had without swapping.
func (m *machine) memory() (total, available uint64) {
	for line := range strings.Lines(m.text("proc/meminfo")) {
		name, rest, _ := strings.Cut(line, ":")
		value := number(strings.TrimSuffix(strings.TrimSpace(rest), " kB")) << 10
		switch name {
		case "MemTotal":
			total = value
		case "MemAvailable":
			return total, value
		}
	}
	return 0, 0
}

// processes gives how many threads there are and may be.
func (m *machine) processes() (used, most uint64) {
	// 0.00 0.01 0.05 1/123 4567: the fourth field is running/existing.
	if fields := strings.Fields(m.text("proc/loadavg")); len(fields) > 3 {
		_, total, _ := strings.Cut(fields[3], "/")
		used = number(total)
	}
	for _, path := range []string{"proc/sys/kernel/pid_max", "proc/sys/kernel/threads-max"} {
		if v := number(m.text(path)); v > 0 && (most == 0 || v < most) {
			most = v
		}
	}
	return used, most
}

// number gives zero for what is none.
func number(s string) uint64 {
	v, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return 0
	}
	return v
}
