package stats

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"
)

// WriteCadvisor writes the part of cAdvisor's metrics that dashboards and alerts
// are made of, at /metrics/cadvisor.
func (c *Collector) WriteCadvisor(ctx context.Context, w io.Writer) error {
	s, _, err := c.measure(ctx)
	if err != nil {
		return err
	}
	if s.err != nil {
		return s.err
	}
	a := &advisor{Text: NewText(w), s: s, host: c.host}
	a.list()
	a.Family("cadvisor_version_info", Gauge, "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.")
	a.Value(1, time.Time{}, "cadvisorVersion", "", "kernelVersion", a.kernel(), "osVersion", "", "version", c.cfg.Version)
	a.cpuFamilies()
	a.diskFamilies()
	a.Family("container_last_seen", Gauge, "Last time a container was seen by the exporter")
	a.each(func(u *unit) { a.Value(float64(s.at.Unix()), s.at, a.labels(u)...) })
	a.memoryFamilies()
	a.networkFamilies()
	a.pressureFamilies()
	a.processFamilies()
	a.specFamilies()
	a.Family("machine_cpu_cores", Gauge, "Number of logical CPU cores.")
	a.Value(float64(s.machine.cores), time.Time{})
	a.Family("machine_memory_bytes", Gauge, "Amount of memory installed on the machine.")
	a.Value(float64(s.machine.installed), time.Time{})
	return a.Flush()
}

// unit is what a line is about: the machine, all pods, a pod, its sandbox or a
// container.
type unit struct {
	id, name, image, container, namespace, pod string

	group    *group
	started  time.Time
	networks []network
	layer    *uint64
}

type advisor struct {
	*Text

	s     *sample
	host  host
	units []unit
	disks map[string]string // names by number

	// What labels works in: there are thousands of lines, and none is kept.
	pairs [][2]string
	flat  []string
}

// labels gives names and values by turns in the order of the names, with more of
// them put in. They are good until the next call.
func (a *advisor) labels(u *unit, more ...string) []string {
	a.pairs = append(a.pairs[:0],
		[2]string{"container", u.container},
		[2]string{"id", u.id},
		[2]string{"image", u.image},
		[2]string{"name", u.name},
		[2]string{"namespace", u.namespace},
		[2]string{"pod", u.pod},
	)
	for i := 0; i+1 < len(more); i += 2 {
		a.pairs = append(a.pairs, [2]string{more[i], more[i+1]})
	}
	slices.SortFunc(a.pairs, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	a.flat = a.flat[:0]
	for _, p := range a.pairs {
		a.flat = append(a.flat, p[0], p[1])
	}
	return a.flat
}

func (a *advisor) kernel() string {
	return strings.TrimSpace(a.host.text("proc/sys/kernel/osrelease"))
}

// list makes the units of a sample.
func (a *advisor) list() {
	s := a.s
	a.disks = map[string]string{}
	a.units = append(a.units, unit{id: "/", group: &s.machine.group, started: s.machine.booted, networks: s.machine.networks})
	for i := range s.podAt {
		p := &s.podAt[i]
		a.units = append(a.units, unit{id: p.dir, namespace: p.namespace, pod: p.name, group: &p.group, started: p.created})
		if len(p.networks) > 0 {
			a.units = append(a.units, unit{id: p.dir + "/" + p.sandboxID, name: p.sandboxID, namespace: p.namespace, pod: p.name, group: &group{}, started: p.created, networks: p.networks})
		}
		for j := range p.containers {
			c := &p.containers[j]
			u := unit{id: c.dir, name: c.id, image: c.image, container: c.name, namespace: p.namespace, pod: p.name, group: &c.group, started: c.created}
			if c.layer != nil {
				u.layer = &c.layer.UsedBytes
			}
			a.units = append(a.units, u)
		}
	}
}

func (a *advisor) each(f func(u *unit)) {
	for i := range a.units {
		f(&a.units[i])
	}
}

// one writes a family of one number of each unit.
func (a *advisor) one(name, kind, help string, scale float64, value func(g *group) *uint64, more ...string) {
	a.Family(name, kind, help)
	a.each(func(u *unit) { a.Number(value(u.group), scale, a.s.at, a.labels(u, more...)...) })
}

func (a *advisor) cpuFamilies() {
	const second = float64(time.Second)
	a.one("container_cpu_cfs_periods_total", Counter, "Number of elapsed enforcement period intervals.", 1, func(g *group) *uint64 { return g.cpu.periods })
	a.one("container_cpu_cfs_throttled_periods_total", Counter, "Number of throttled period intervals.", 1, func(g *group) *uint64 { return g.cpu.throttled })
	a.one("container_cpu_cfs_throttled_seconds_total", Counter, "Total time duration the container has been throttled.", second, func(g *group) *uint64 { return g.cpu.throttledTime })
	a.one("container_cpu_system_seconds_total", Counter, "Cumulative system cpu time consumed in seconds.", second, func(g *group) *uint64 { return g.cpu.system })
	a.one("container_cpu_usage_seconds_total", Counter, "Cumulative cpu time consumed in seconds.", second, func(g *group) *uint64 { return g.cpu.total }, "cpu", "total")
	a.one("container_cpu_user_seconds_total", Counter, "Cumulative user cpu time consumed in seconds.", second, func(g *group) *uint64 { return g.cpu.user })
}

func (a *advisor) diskFamilies() {
	perDisk := func(name, help string, value func(d *diskUse) (uint64, bool)) {
		a.Family(name, Counter, help)
		a.each(func(u *unit) {
			for i := range u.group.disks {
				if v, ok := value(&u.group.disks[i]); ok {
					a.Value(float64(v), a.s.at, a.labels(u, "device", a.disk(u.group.disks[i].device))...)
				}
			}
		})
	}
	perDisk("container_fs_reads_bytes_total", "Cumulative count of bytes read", func(d *diskUse) (uint64, bool) { return d.read, d.hasBytes })
	perDisk("container_fs_reads_total", "Cumulative count of reads completed", func(d *diskUse) (uint64, bool) { return d.reads, d.hasReadsAndWrite })
	a.Family("container_fs_usage_bytes", Gauge, "Number of bytes that are consumed by the container on this filesystem.")
	a.each(func(u *unit) { a.Number(u.layer, 1, a.s.at, a.labels(u, "device", "")...) })
	perDisk("container_fs_writes_bytes_total", "Cumulative count of bytes written", func(d *diskUse) (uint64, bool) { return d.written, d.hasBytes })
	perDisk("container_fs_writes_total", "Cumulative count of writes completed", func(d *diskUse) (uint64, bool) { return d.writes, d.hasReadsAndWrite })
}

// disk gives a device's name and remembers it.
func (a *advisor) disk(number string) string {
	name, ok := a.disks[number]
	if !ok {
		name = a.host.deviceName(number)
		a.disks[number] = name
	}
	return name
}

func (a *advisor) memoryFamilies() {
	a.one("container_memory_cache", Gauge, "Number of bytes of page cache memory.", 1, func(g *group) *uint64 { return g.memory.cache })
	a.one("container_memory_failcnt", Counter, "Number of memory usage hits limits", 1, func(g *group) *uint64 { return g.memory.failures })
	a.Family("container_memory_failures_total", Counter, "Cumulative count of memory allocation failures.")
	a.each(func(u *unit) {
		a.Number(u.group.memory.faults, 1, a.s.at, a.labels(u, "failure_type", "pgfault", "scope", "hierarchy")...)
		a.Number(u.group.memory.majorFaults, 1, a.s.at, a.labels(u, "failure_type", "pgmajfault", "scope", "hierarchy")...)
	})
	a.one("container_memory_mapped_file", Gauge, "Size of memory mapped files in bytes.", 1, func(g *group) *uint64 { return g.memory.mapped })
	a.one("container_memory_max_usage_bytes", Gauge, "Maximum memory usage recorded in bytes", 1, func(g *group) *uint64 { return g.memory.peak })
	a.one("container_memory_rss", Gauge, "Size of RSS in bytes.", 1, func(g *group) *uint64 { return g.memory.rss })
	a.one("container_memory_swap", Gauge, "Container swap usage in bytes.", 1, func(g *group) *uint64 { return g.memory.swap })
	a.one("container_memory_usage_bytes", Gauge, "Current memory usage in bytes, including all memory regardless of when it was accessed", 1, func(g *group) *uint64 { return g.memory.usage })
	a.one("container_memory_working_set_bytes", Gauge, "Current working set in bytes.", 1, func(g *group) *uint64 { return g.memory.workingSet })
}

func (a *advisor) networkFamilies() {
	for _, f := range []struct {
		name, help string
		value      func(n *network) uint64
	}{
		{"container_network_receive_bytes_total", "Cumulative count of bytes received", func(n *network) uint64 { return n.rxBytes }},
		{"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", func(n *network) uint64 { return n.rxErrors }},
		{"container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", func(n *network) uint64 { return n.rxDropped }},
		{"container_network_receive_packets_total", "Cumulative count of packets received", func(n *network) uint64 { return n.rxPackets }},
		{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", func(n *network) uint64 { return n.txBytes }},
		{"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", func(n *network) uint64 { return n.txErrors }},
		{"container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", func(n *network) uint64 { return n.txDropped }},
		{"container_network_transmit_packets_total", "Cumulative count of packets transmitted", func(n *network) uint64 { return n.txPackets }},
	} {
		a.Family(f.name, Counter, f.help)
		a.each(func(u *unit) {
			for i := range u.networks {
				a.Value(float64(f.value(&u.networks[i])), a.s.at, a.labels(u, "interface", u.networks[i].name)...)
			}
		})
	}
}

func (a *advisor) pressureFamilies() {
	for _, f := range []struct {
		name, what string
		of         func(g *group) *pressure
	}{
		{"cpu", "CPU", func(g *group) *pressure { return g.cpuPressure }},
		{"io", "IO", func(g *group) *pressure { return g.ioPressure }},
		{"memory", "memory", func(g *group) *pressure { return g.memoryPressure }},
	} {
		total := func(pick func(p *pressure) *uint64) func(g *group) *uint64 {
			return func(g *group) *uint64 {
				if p := f.of(g); p != nil {
					return pick(p)
				}
				return nil
			}
		}
		a.one("container_pressure_"+f.name+"_stalled_seconds_total", Counter, "Total time duration no tasks in the container could make progress due to "+f.what+" congestion.",
			float64(time.Second), total(func(p *pressure) *uint64 { return &p.full.total }))
		a.one("container_pressure_"+f.name+"_waiting_seconds_total", Counter, "Total time duration tasks in the container have waited due to "+f.what+" congestion.",
			float64(time.Second), total(func(p *pressure) *uint64 { return &p.some.total }))
	}
}

func (a *advisor) processFamilies() {
	a.one("container_processes", Gauge, "Number of processes running inside the container.", 1, func(g *group) *uint64 { return g.processes })
}

func (a *advisor) specFamilies() {
	a.one("container_spec_cpu_period", Gauge, "CPU period of the container.", 1, func(g *group) *uint64 { return g.cpu.quotaPeriods })
	a.one("container_spec_cpu_quota", Gauge, "CPU quota of the container.", 1, func(g *group) *uint64 { return g.cpu.quota })
	a.one("container_spec_cpu_shares", Gauge, "CPU share of the container.", 1, func(g *group) *uint64 { return g.cpu.shares })
	a.one("container_spec_memory_limit_bytes", Gauge, "Memory limit for the container.", 1, func(g *group) *uint64 {
		if g.memory.limit == nil && g.memory.usage != nil {
			return new(uint64) // cAdvisor's word for none
		}
		return g.memory.limit
	})
	a.one("container_spec_memory_swap_limit_bytes", Gauge, "Memory swap limit for the container.", 1, func(g *group) *uint64 { return g.memory.swapLimit })
	a.Family("container_start_time_seconds", Gauge, "Start time of the container since unix epoch in seconds.")
	a.each(func(u *unit) {
		if u.started.Unix() > 0 {
			a.Value(float64(u.started.Unix()), a.s.at, a.labels(u)...)
		}
	})
	a.one("container_threads", Gauge, "Number of threads running inside the container", 1, func(g *group) *uint64 { return g.threads })
	a.Family("container_threads_max", Gauge, "Maximum number of threads allowed inside the container, infinity if value is zero")
	a.each(func(u *unit) {
		if u.group.threads != nil {
			most := uint64(0)
			if u.group.maxThreads != nil {
				most = *u.group.maxThreads
			}
			a.Number(&most, 1, a.s.at, a.labels(u)...)
		}
	})
}
