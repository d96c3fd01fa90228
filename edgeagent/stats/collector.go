package stats

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

const (
	// shareFor is how long a sample serves others who ask: several scrapers must not
	// cost more than one.
	shareFor = time.Second
	// rateFrom and rateTo bound how far apart two samples may be for a rate between
	// them. Below, the counters' own steps show; above, it is not what is used now.
	rateFrom = time.Second
	rateTo   = 5 * time.Minute
)

// Runtime is what is asked of the container runtime; a *cri.Client answers.
type Runtime interface {
	ListSandboxes(ctx context.Context, labels map[string]string) ([]cri.Sandbox, error)
	ListContainers(ctx context.Context, labels map[string]string) ([]cri.Container, error)
	ListContainerStats(ctx context.Context, labels map[string]string) ([]cri.ContainerStats, error)
	ImageFilesystems(ctx context.Context) ([]cri.FilesystemUsage, error)
}

// Config is what a Collector needs.
type Config struct {
	// NodeName is the node's name.
	NodeName string
	// Version is this build's, for the metrics.
	Version string
	// Runtime is required.
	Runtime Runtime
	// Groups says where pods have their control groups.
	Groups cgroups.Layout
	// DataDir is on the file system that the node's figures are about; empty means /.
	DataDir string
	// LogsDir holds the containers' logs, in folders NAMESPACE_POD_UID/CONTAINER.
	// Empty leaves them out.
	LogsDir string
	// Root is the machine's file system, of which /proc and /sys are read; nil means
	// the machine's own.
	Root fs.FS
	// Log gets what goes wrong. Nil discards.
	Log *slog.Logger
}

// Collector measures when it is asked to.
type Collector struct {
	cfg  Config
	log  *slog.Logger
	host host
	made time.Time

	turn chan struct{} // holds one item while nobody measures; guards the following fields
	last *sample
	cpu  map[string]rate // by container id, pod UID, or the names of the two below
}

// The keys of rates that are not of pods.
const (
	rateMachine = "machine"
	ratePods    = "pods"
)

// rate is the use of CPU between two samples.
type rate struct {
	at        time.Time // of the newer one
	total     uint64
	nanoCores *uint64 // nil before there were two
}

// New checks cfg. Nothing is measured yet.
func New(cfg Config) (*Collector, error) {
	if cfg.Runtime == nil {
		return nil, errors.New("stats: Runtime is required")
	}
	if cfg.Root == nil {
		cfg.Root = os.DirFS("/")
	}
	if cfg.DataDir == "" {
		cfg.DataDir = "/"
	}
	c := &Collector{cfg: cfg, log: discard(cfg.Log), host: newHost(cfg.Root), made: time.Now(), turn: make(chan struct{}, 1), cpu: map[string]rate{}}
	c.turn <- struct{}{}
	return c, nil
}

// measure gives a sample that is at most a second old, with the rates that go
// with it. It waits for another caller who measures.
func (c *Collector) measure(ctx context.Context) (*sample, map[string]rate, error) {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	defer func() { c.turn <- struct{}{} }()
	if c.last != nil && time.Since(c.last.at) < shareFor {
		return c.last, c.cpu, nil
	}
	s := c.sample(ctx)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err() // half a sample must not be shared
	}
	if s.err == nil {
		c.cpu = c.rates(s)
	}
	c.last = s
	return s, c.cpu, nil
}

// rates gives the rates up to s. What is no longer there is forgotten.
func (c *Collector) rates(s *sample) map[string]rate {
	next := make(map[string]rate, len(c.cpu))
	note := func(key string, at time.Time, total *uint64) {
		if total != nil {
			next[key] = advance(c.cpu[key], at, *total)
		}
	}
	note(rateMachine, s.at, s.machine.cpu.total)
	if s.pods != nil {
		note(ratePods, s.at, s.pods.cpu.total)
	}
	for i := range s.podAt {
		p := &s.podAt[i]
		note(p.uid, s.at, p.group.cpu.total)
		for j := range p.containers {
			ct := &p.containers[j]
			note(ct.id, ct.cpuAt, ct.group.cpu.total)
		}
	}
	return next
}

// advance gives the rate after a newer sample.
func advance(last rate, at time.Time, total uint64) rate {
	passed := at.Sub(last.at)
	switch {
	case last.at.IsZero(), passed > rateTo, total < last.total, passed < 0:
		return rate{at: at, total: total}
	case passed < rateFrom:
		return last
	}
	cores := float64(total-last.total) / passed.Seconds()
	return rate{at: at, total: total, nanoCores: new(uint64(cores))}
}

// filesystem is how full a file system is.
type filesystem struct {
	capacity, available, inodes, inodesFree uint64
	// used and inodesUsed are of one thing on it; nil for all.
	used, inodesUsed *uint64
}

// statfs gives nil where there is nothing to ask.
func (c *Collector) statfs(dir string) *filesystem {
	var st syscall.Statfs_t
	if dir == "" || syscall.Statfs(dir, &st) != nil {
		return nil
	}
	size := uint64(st.Bsize)
	return &filesystem{capacity: st.Blocks * size, available: st.Bavail * size, inodes: st.Files, inodesFree: st.Ffree}
}

// maxLogFiles bounds how many log files of a container are counted; rotation
// keeps a few.
const maxLogFiles = 100

// logUse gives how much a container's logs take on the disk.
func (c *Collector) logUse(p *podSample, container string) (used, inodes uint64, ok bool) {
	name := p.namespace + "_" + p.name + "_" + p.uid
	if c.cfg.LogsDir == "" || !isName(name) || !isName(container) {
		return 0, 0, false
	}
	dir, err := os.Open(filepath.Join(c.cfg.LogsDir, name, container))
	if err != nil {
		return 0, 0, false
	}
	defer dir.Close() //nolint:errcheck // nothing was written
	entries, _ := dir.ReadDir(maxLogFiles)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // rotated away
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			used += uint64(st.Blocks) * 512 // what it takes, as du counts
			inodes++
		}
	}
	return used, inodes, true
}
