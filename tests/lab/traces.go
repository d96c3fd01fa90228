package lab

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
)

// The kinds of traces that pods leave on a machine. The first four are the
// agent's, the others those of the runtime.
const (
	PodDirs    = "pod directories"
	PodMounts  = "mounts of pods"
	PodCgroups = "control groups of pods"
	PodLogs    = "log directories"
	Containers = "containers"
	Shims      = "shims"
	Snapshots  = "snapshots"
	RootMounts = "mounts of the runtime"
	PodNetns   = "network namespaces"
	Addresses  = "addresses"
	Devices    = "network devices"
)

// Traces is what pods, those that run too, have on the machine, by kind.
func (e *Edge) Traces(ctx context.Context) (map[string][]string, error) {
	out := map[string][]string{}
	for kind, pattern := range map[string]string{
		PodDirs:   e.Path("state", "pods", "*"),
		PodLogs:   e.Path("podlogs", "*"),
		Shims:     e.Path("containerd", "state", "io.containerd.runtime.v2.task", "*", "*"),
		PodNetns:  e.Path("containerd", "state", "io.containerd.grpc.v1.cri", "netns", "*"),
		Addresses: e.Path("containerd", "ipam", "*", "10.*"),
	} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			out[kind] = append(out[kind], filepath.Base(f))
		}
	}
	mounts, err := mountsBelow(e.Path())
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		kind := RootMounts
		if strings.HasPrefix(m, e.StateDir()+"/") {
			kind = PodMounts
		}
		out[kind] = append(out[kind], strings.TrimPrefix(m, e.Path()+"/"))
	}
	if out[PodCgroups], err = e.podCgroups(); err != nil {
		return nil, err
	}
	if out[Containers], err = e.Containers(ctx); err != nil {
		return nil, err
	}
	snapshots, err := e.Ctr(ctx, "snapshots", "ls")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(snapshots) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "Active" {
			out[Snapshots] = append(out[Snapshots], f[0])
		}
	}
	devices, err := e.Run(ctx, "ls", "/proc/sys/net/ipv4/conf")
	for name := range strings.FieldsSeq(devices) {
		if strings.HasPrefix(name, "veth") {
			out[Devices] = append(out[Devices], name)
		}
	}
	return out, err
}

// podCgroups are the names of the control groups podUID of all hierarchies.
func (e *Edge) podCgroups() ([]string, error) {
	dirs, err := cgroupDirs(e.cgroupRoot())
	var names []string
	for _, dir := range dirs {
		if name := filepath.Base(dir); strings.HasPrefix(name, "pod") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, err
}

// KillRuntime kills containerd as the kernel does when memory is short. Shims and
// containers go on; StartRuntime brings it back.
func (e *Edge) KillRuntime(ctx context.Context) error {
	return e.lab.kill(ctx, e.daemon("containerd"))
}
