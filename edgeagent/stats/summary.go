package stats

import (
	"context"
	"os"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Summary measures the machine and its pods, as /stats/summary shows them.
func (c *Collector) Summary(ctx context.Context, onlyCPUAndMemory bool) (*statsv1alpha1.Summary, error) {
	s, rates, err := c.measure(ctx)
	if err != nil {
		return nil, err
	}
	if s.err != nil {
		return nil, s.err
	}
	v := view{c: c, s: s, rates: rates, only: onlyCPUAndMemory}
	out := &statsv1alpha1.Summary{Node: v.node(), Pods: make([]statsv1alpha1.PodStats, 0, len(s.podAt))}
	for i := range s.podAt {
		out.Pods = append(out.Pods, v.pod(&s.podAt[i]))
	}
	return out, nil
}

// view shows a sample in a kubelet's types.
type view struct {
	c     *Collector
	s     *sample
	rates map[string]rate
	only  bool // CPU and memory
}

func (v view) node() statsv1alpha1.NodeStats {
	m, at := &v.s.machine, v.s.at
	out := statsv1alpha1.NodeStats{
		NodeName: v.c.cfg.NodeName, StartTime: metav1.NewTime(m.booted),
		CPU: v.cpu(&m.group, at, v.rates[rateMachine].nanoCores), Memory: memory(&m.group, at), Swap: swap(&m.group, at),
	}
	out.SystemContainers = v.system()
	if v.only {
		return out
	}
	out.IO = ioStats(&m.group, at)
	out.Network = networkStats(m.networks, m.defaultInterface, at)
	out.Fs = fsStats(v.s.node, at)
	if images := fsStats(v.s.images, at); images != nil {
		out.Runtime = &statsv1alpha1.RuntimeStats{ImageFs: images, ContainerFs: images}
	}
	if m.tasks != nil || m.maxTasks != nil {
		out.Rlimit = &statsv1alpha1.RlimitStats{Time: metav1.NewTime(at), MaxPID: signed(m.maxTasks), NumOfRunningProcesses: signed(m.tasks)}
	}
	return out
}

// system are the agent, which stands for the kubelet, and all pods together.
func (v view) system() []statsv1alpha1.ContainerStats {
	at := v.s.at
	var list []statsv1alpha1.ContainerStats
	var use syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &use) == nil {
		var g group
		g.cpu.total = new(uint64(use.Utime.Nano() + use.Stime.Nano()))
		g.memory.faults, g.memory.majorFaults = new(uint64(use.Minflt)), new(uint64(use.Majflt))
		if f := strings.Fields(v.c.host.text("proc/self/statm")); len(f) > 1 {
			if pages := number(f[1]); pages != nil {
				g.memory.rss = new(*pages * uint64(os.Getpagesize()))
				g.memory.workingSet, g.memory.usage = g.memory.rss, g.memory.rss
			}
		}
		list = append(list, statsv1alpha1.ContainerStats{
			Name: statsv1alpha1.SystemContainerKubelet, StartTime: metav1.NewTime(v.c.made), CPU: v.cpu(&g, time.Now(), nil), Memory: memory(&g, at),
		})
	}
	if v.s.pods != nil {
		list = append(list, statsv1alpha1.ContainerStats{
			Name: statsv1alpha1.SystemContainerPods, StartTime: metav1.NewTime(v.s.machine.booted),
			CPU: v.cpu(v.s.pods, at, v.rates[ratePods].nanoCores), Memory: memory(v.s.pods, at), Swap: swap(v.s.pods, at),
		})
	}
	return list
}

func (v view) pod(p *podSample) statsv1alpha1.PodStats {
	at := v.s.at
	out := statsv1alpha1.PodStats{
		PodRef:    statsv1alpha1.PodReference{Name: p.name, Namespace: p.namespace, UID: p.uid},
		StartTime: metav1.NewTime(p.created), Containers: make([]statsv1alpha1.ContainerStats, 0, len(p.containers)),
		CPU: v.cpu(&p.group, at, v.rates[p.uid].nanoCores), Memory: memory(&p.group, at), Swap: swap(&p.group, at),
	}
	disk, known := filesystem{used: new(uint64), inodesUsed: new(uint64)}, false
	for i := range p.containers {
		ct := v.container(p, &p.containers[i])
		out.Containers = append(out.Containers, ct)
		for _, f := range []*statsv1alpha1.FsStats{ct.Rootfs, ct.Logs} {
			if f != nil {
				known = true
				*disk.used += *f.UsedBytes
				*disk.inodesUsed += *f.InodesUsed
			}
		}
	}
	if p.dir == "" {
		v.sum(&out)
	}
	if v.only {
		return out
	}
	out.IO = ioStats(&p.group, at)
	out.Network = networkStats(p.networks, podInterface, at)
	if p.group.threads != nil {
		out.ProcessStats = &statsv1alpha1.ProcessStats{ProcessCount: p.group.threads}
	}
	if known {
		if n := v.s.node; n != nil {
			disk.capacity, disk.available, disk.inodes, disk.inodesFree = n.capacity, n.available, n.inodes, n.inodesFree
		}
		out.EphemeralStorage = fsStats(&disk, at)
	}
	return out
}

// sum makes a pod's figures of its containers', where it has no group.
func (v view) sum(out *statsv1alpha1.PodStats) {
	var g group
	add := func(to **uint64, n *uint64) {
		if n != nil {
			if *to == nil {
				*to = new(uint64)
			}
			**to += *n
		}
	}
	var cores *uint64
	for i := range out.Containers {
		if c := out.Containers[i].CPU; c != nil {
			add(&g.cpu.total, c.UsageCoreNanoSeconds)
			add(&cores, c.UsageNanoCores)
		}
		if m := out.Containers[i].Memory; m != nil {
			add(&g.memory.workingSet, m.WorkingSetBytes)
			add(&g.memory.usage, m.UsageBytes)
			add(&g.memory.rss, m.RSSBytes)
		}
	}
	out.CPU, out.Memory = v.cpu(&g, v.s.at, cores), memory(&g, v.s.at)
}

func (v view) container(p *podSample, ct *containerSample) statsv1alpha1.ContainerStats {
	at := v.s.at
	cores := ct.nanoCores
	if cores == nil {
		cores = v.rates[ct.id].nanoCores
	}
	out := statsv1alpha1.ContainerStats{
		Name: ct.name, StartTime: metav1.NewTime(ct.created),
		CPU: v.cpu(&ct.group, ct.cpuAt, cores), Memory: memory(&ct.group, at), Swap: swap(&ct.group, at),
	}
	if v.only {
		return out
	}
	out.IO = ioStats(&ct.group, at)
	if ct.layer != nil {
		f := filesystem{used: &ct.layer.UsedBytes, inodesUsed: &ct.layer.InodesUsed}
		if images := v.s.images; images != nil {
			f.capacity, f.available, f.inodes, f.inodesFree = images.capacity, images.available, images.inodes, images.inodesFree
		}
		out.Rootfs = fsStats(&f, at)
	}
	if used, inodes, ok := v.c.logUse(p, ct.name); ok {
		f := filesystem{used: &used, inodesUsed: &inodes}
		if n := v.s.node; n != nil {
			f.capacity, f.available, f.inodes, f.inodesFree = n.capacity, n.available, n.inodes, n.inodesFree
		}
		out.Logs = fsStats(&f, at)
	}
	return out
}

func (v view) cpu(g *group, at time.Time, nanoCores *uint64) *statsv1alpha1.CPUStats {
	if g.cpu.total == nil && nanoCores == nil && g.cpuPressure == nil {
		return nil
	}
	return &statsv1alpha1.CPUStats{Time: metav1.NewTime(at), UsageNanoCores: nanoCores, UsageCoreNanoSeconds: g.cpu.total, PSI: psi(g.cpuPressure)}
}

func memory(g *group, at time.Time) *statsv1alpha1.MemoryStats {
	m := &g.memory
	if m.usage == nil && m.workingSet == nil {
		return nil
	}
	out := &statsv1alpha1.MemoryStats{
		Time: metav1.NewTime(at), UsageBytes: m.usage, WorkingSetBytes: m.workingSet, RSSBytes: m.rss,
		PageFaults: m.faults, MajorPageFaults: m.majorFaults, PSI: psi(g.memoryPressure),
	}
	if m.limit != nil && m.workingSet != nil {
		out.AvailableBytes = less(m.limit, *m.workingSet)
	}
	return out
}

func swap(g *group, at time.Time) *statsv1alpha1.SwapStats {
	m := &g.memory
	if m.swap == nil {
		return nil
	}
	out := &statsv1alpha1.SwapStats{Time: metav1.NewTime(at), SwapUsageBytes: m.swap}
	if m.swapLimit != nil {
		out.SwapAvailableBytes = less(m.swapLimit, *m.swap)
	}
	return out
}

func ioStats(g *group, at time.Time) *statsv1alpha1.IOStats {
	if g.ioPressure == nil {
		return nil
	}
	return &statsv1alpha1.IOStats{Time: metav1.NewTime(at), PSI: psi(g.ioPressure)}
}

func psi(p *pressure) *statsv1alpha1.PSIStats {
	if p == nil {
		return nil
	}
	data := func(s stall) statsv1alpha1.PSIData {
		return statsv1alpha1.PSIData{Total: s.total, Avg10: s.avg10, Avg60: s.avg60, Avg300: s.avg300}
	}
	return &statsv1alpha1.PSIStats{Full: data(p.full), Some: data(p.some)}
}

// networkStats shows all interfaces, and the one that has the default route
// before them.
func networkStats(list []network, first string, at time.Time) *statsv1alpha1.NetworkStats {
	if len(list) == 0 {
		return nil
	}
	out := &statsv1alpha1.NetworkStats{Time: metav1.NewTime(at)}
	for i := range list {
		n := list[i]
		one := statsv1alpha1.InterfaceStats{Name: n.name, RxBytes: &n.rxBytes, RxErrors: &n.rxErrors, TxBytes: &n.txBytes, TxErrors: &n.txErrors}
		if n.name == first {
			out.InterfaceStats = one
		}
		out.Interfaces = append(out.Interfaces, one)
	}
	return out
}

func fsStats(f *filesystem, at time.Time) *statsv1alpha1.FsStats {
	if f == nil {
		return nil
	}
	out := &statsv1alpha1.FsStats{Time: metav1.NewTime(at), UsedBytes: f.used, InodesUsed: f.inodesUsed}
	if f.capacity > 0 {
		out.CapacityBytes, out.AvailableBytes = &f.capacity, &f.available
		if f.used == nil {
			out.UsedBytes = new(f.capacity - min(f.capacity, f.available))
		}
	}
	if f.inodes > 0 {
		out.Inodes, out.InodesFree = &f.inodes, &f.inodesFree
		if f.inodesUsed == nil {
			out.InodesUsed = new(f.inodes - min(f.inodes, f.inodesFree))
		}
	}
	return out
}

func signed(n *uint64) *int64 {
	if n == nil {
		return nil
	}
	return new(int64(*n))
}
