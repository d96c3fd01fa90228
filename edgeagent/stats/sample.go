package stats

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// The labels that pods carry in the runtime.
const (
	labelPodName       = "io.kubernetes.pod.name"
	labelPodNamespace  = "io.kubernetes.pod.namespace"
	labelPodUID        = "io.kubernetes.pod.uid"
	labelContainerName = "io.kubernetes.container.name"
)

// sample is one measurement of everything.
type sample struct {
	at      time.Time
	machine machine
	// pods is the group of all pods, nil where it can't be read.
	pods   *group
	podAt  []podSample
	images *filesystem
	node   *filesystem
	// err says why there are no pods in it.
	err error
}

// podSample is one pod.
type podSample struct {
	namespace, name, uid string
	sandboxID            string
	created              time.Time
	dir, sandboxDir      string // of control groups, empty when not found
	group                group
	networks             []network
	containers           []containerSample
}

// containerSample is one container that runs.
type containerSample struct {
	id, name, image string
	created         time.Time
	dir             string
	group           group
	cpuAt           time.Time
	nanoCores       *uint64 // where the runtime says it
	layer           *cri.FilesystemUsage
}

// sample measures now.
func (c *Collector) sample(ctx context.Context) *sample {
	s := &sample{at: time.Now(), machine: c.host.machine()}
	if all := c.cfg.Groups.Group(); c.host.exists(all) {
		g := c.host.group(all)
		s.pods = &g
	}
	s.node = c.statfs(c.cfg.DataDir)
	s.err = c.samplePods(ctx, s)
	if s.err != nil {
		c.log.Warn("pods can't be measured", "error", s.err)
	}
	if list, err := c.cfg.Runtime.ImageFilesystems(ctx); err == nil && len(list) > 0 {
		if s.images = c.statfs(list[0].Mountpoint); s.images != nil {
			s.images.used, s.images.inodesUsed = &list[0].UsedBytes, &list[0].InodesUsed
		}
	}
	return s
}

// samplePods asks the runtime, and reads the control groups of what it has.
func (c *Collector) samplePods(ctx context.Context, s *sample) error {
	sandboxes, err := c.cfg.Runtime.ListSandboxes(ctx, nil)
	if err != nil {
		return err
	}
	containers, err := c.cfg.Runtime.ListContainers(ctx, nil)
	if err != nil {
		return err
	}
	used, err := c.cfg.Runtime.ListContainerStats(ctx, nil)
	if err != nil {
		return err
	}
	// Of two sandboxes of one pod the newer one counts, as with containers below.
	slices.SortFunc(sandboxes, func(a, b cri.Sandbox) int { return b.CreatedAt.Compare(a.CreatedAt) })
	byUID := map[string]*podSample{}
	for _, sb := range sandboxes {
		if sb.UID != "" && sb.Ready && byUID[sb.UID] == nil {
			byUID[sb.UID] = c.samplePod(&sb)
		}
	}
	byID := make(map[string]*cri.ContainerStats, len(used))
	for i := range used {
		byID[used[i].ID] = &used[i]
	}
	slices.SortFunc(containers, func(a, b cri.Container) int { return b.CreatedAt.Compare(a.CreatedAt) })
	for i := range containers {
		ct := &containers[i]
		p := byUID[ct.Labels[labelPodUID]]
		if p == nil || ct.State != cri.StateRunning || p.has(ct.Labels[labelContainerName]) {
			continue
		}
		p.containers = append(p.containers, c.sampleContainer(p, ct, byID[ct.ID], s.at))
	}
	for _, p := range byUID {
		slices.SortFunc(p.containers, func(a, b containerSample) int { return strings.Compare(a.name, b.name) })
		p.networks = c.host.podNetworks(p.dirs())
		s.podAt = append(s.podAt, *p)
	}
	slices.SortFunc(s.podAt, func(a, b podSample) int {
		if n := strings.Compare(a.namespace, b.namespace); n != 0 {
			return n
		}
		return strings.Compare(a.name+"\x00"+a.uid, b.name+"\x00"+b.uid)
	})
	return nil
}

// pods are where a pod's group may be.
func pods(l cgroups.Layout, uid string) []string {
	var out []string
	for _, class := range cgroups.Classes() {
		out = append(out, l.Pod(class, uid))
	}
	return out
}

func (p *podSample) has(container string) bool {
	return slices.ContainsFunc(p.containers, func(c containerSample) bool { return c.name == container })
}

// dirs are where processes of the pod may be: the sandbox's first.
func (p *podSample) dirs() []string {
	if p.dir == "" {
		return nil
	}
	dirs := []string{p.dir}
	if p.sandboxDir != "" {
		dirs = []string{p.sandboxDir, p.dir}
	}
	for i := range p.containers {
		dirs = append(dirs, p.containers[i].dir)
	}
	return dirs
}

func (c *Collector) samplePod(sb *cri.Sandbox) *podSample {
	p := &podSample{namespace: sb.Namespace, name: sb.Name, uid: sb.UID, sandboxID: sb.ID, created: sb.CreatedAt}
	if !isName(p.uid) || !isName(p.sandboxID) {
		return p
	}
	if p.dir = c.host.first(pods(c.cfg.Groups, p.uid)); p.dir == "" {
		return p
	}
	p.group = c.host.group(p.dir)
	p.sandboxDir = c.host.first(c.cfg.Groups.Containers(p.dir, p.sandboxID))
	return p
}

// isName says that s is one element of a path.
func isName(s string) bool { return s != "" && s != "." && s != ".." && !strings.Contains(s, "/") }

// sampleContainer takes what the runtime says, and what it leaves out from the
// container's control group.
func (c *Collector) sampleContainer(p *podSample, ct *cri.Container, used *cri.ContainerStats, now time.Time) containerSample {
	out := containerSample{id: ct.ID, name: ct.Labels[labelContainerName], image: ct.Image, created: ct.CreatedAt, cpuAt: now}
	if p.dir != "" && isName(ct.ID) {
		if out.dir = c.host.first(c.cfg.Groups.Containers(p.dir, ct.ID)); out.dir != "" {
			out.group = c.host.group(out.dir)
		}
	}
	if used == nil {
		return out
	}
	// CPU is a pair, of time and use, and must not mix what two have said.
	if used.CPUNanoSeconds > 0 && !used.At.IsZero() {
		out.group.cpu.total, out.cpuAt = &used.CPUNanoSeconds, used.At
	}
	if used.CPUNanoCores > 0 {
		out.nanoCores = &used.CPUNanoCores
	}
	m := &out.group.memory
	for to, v := range map[**uint64]uint64{
		&m.workingSet: used.MemoryWorkingSet, &m.usage: used.MemoryUsage, &m.rss: used.MemoryRSS,
		&m.faults: used.PageFaults, &m.majorFaults: used.MajorPageFaults,
	} {
		if v > 0 {
			*to = &v
		}
	}
	if used.WritableLayer.Mountpoint != "" || used.WritableLayer.UsedBytes > 0 {
		out.layer = &used.WritableLayer
	}
	return out
}

// discard is the logger of a Config without one.
func discard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
