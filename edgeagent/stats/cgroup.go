package stats

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
	"time"
)

// cgroupMount is where control groups are, below the root.
const cgroupMount = "sys/fs/cgroup"

// ticks is USER_HZ, which is the same on all of Go's platforms.
const ticks = 100

// noLimit is what version 1 says for none, rounded down to a page.
const noLimit = math.MaxInt64 - 64<<10

// group is what one control group, or the machine, uses. What is nil is not known.
type group struct {
	cpu    cpuUse
	memory memoryUse
	disks  []diskUse

	threads, maxThreads, processes *uint64

	cpuPressure, memoryPressure, ioPressure *pressure
}

type cpuUse struct {
	total, user, system         *uint64 // nanoseconds
	periods, throttled          *uint64
	throttledTime               *uint64 // nanoseconds
	shares, quota, quotaPeriods *uint64 // the last two in microseconds
}

type memoryUse struct {
	usage, workingSet, rss, cache, mapped, swap *uint64
	faults, majorFaults, failures, peak         *uint64
	limit, swapLimit                            *uint64
}

// diskUse is the traffic of one block device.
type diskUse struct {
	device                     string // its number, such as 8:0
	read, written              uint64 // bytes
	reads, writes              uint64
	hasBytes, hasReadsAndWrite bool
}

// pressure is one file of the kernel's pressure stall information.
type pressure struct{ some, full stall }

type stall struct {
	avg10, avg60, avg300 float64
	total                uint64 // nanoseconds
}

// host reads the kernel's files.
type host struct {
	fs      fs.FS
	unified bool // cgroup version 2
}

func newHost(root fs.FS) host {
	_, err := fs.Stat(root, path.Join(cgroupMount, "cgroup.controllers"))
	return host{fs: root, unified: err == nil}
}

// text gives a file's content, empty where there is none.
func (h host) text(elem ...string) string {
	b, err := fs.ReadFile(h.fs, path.Join(elem...))
	if err != nil {
		return ""
	}
	return string(b)
}

// number gives a file's only value; "max" and a missing file are nil.
func (h host) number(elem ...string) *uint64 { return number(h.text(elem...)) }

func number(s string) *uint64 {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

// fields gives the lines "name value" of a file.
func (h host) fields(elem ...string) map[string]uint64 {
	out := map[string]uint64{}
	for line := range strings.Lines(h.text(elem...)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n := number(value); n != nil {
			out[strings.TrimSuffix(name, ":")] = *n
		}
	}
	return out
}

// exists says whether there is a control group at that path.
func (h host) exists(dir string) bool {
	_, err := fs.Stat(h.fs, h.file(dir, "memory", ""))
	return err == nil
}

// first is the first of these control groups that there is, empty without any.
func (h host) first(dirs []string) string {
	for _, dir := range dirs {
		if h.exists(dir) {
			return dir
		}
	}
	return ""
}

// file names a file of a control group; version 1 has a tree for each controller.
func (h host) file(dir, controller, name string) string {
	if h.unified {
		return path.Join(cgroupMount, dir, name)
	}
	return path.Join(cgroupMount, controller, dir, name)
}

// group reads a control group.
func (h host) group(dir string) group {
	if h.unified {
		return h.groupV2(dir)
	}
	return h.groupV1(dir)
}

func (h host) groupV1(dir string) group {
	var g group
	at := func(controller, name string) string { return h.file(dir, controller, name) }
	g.cpu.total = h.number(at("cpuacct", "cpuacct.usage"))
	if stat := h.fields(at("cpuacct", "cpuacct.stat")); len(stat) > 0 {
		g.cpu.user, g.cpu.system = scaled(stat, "user", uint64(time.Second)/ticks), scaled(stat, "system", uint64(time.Second)/ticks)
	}
	stat := h.fields(at("cpu", "cpu.stat"))
	g.cpu.periods, g.cpu.throttled, g.cpu.throttledTime = scaled(stat, "nr_periods", 1), scaled(stat, "nr_throttled", 1), scaled(stat, "throttled_time", 1)
	g.cpu.shares = h.number(at("cpu", "cpu.shares"))
	g.cpu.quota, g.cpu.quotaPeriods = h.number(at("cpu", "cpu.cfs_quota_us")), h.number(at("cpu", "cpu.cfs_period_us"))

	stat = h.fields(at("memory", "memory.stat"))
	m := &g.memory
	m.usage = h.number(at("memory", "memory.usage_in_bytes"))
	m.rss, m.cache, m.mapped, m.swap = scaled(stat, "total_rss", 1), scaled(stat, "total_cache", 1), scaled(stat, "total_mapped_file", 1), scaled(stat, "total_swap", 1)
	m.faults, m.majorFaults = scaled(stat, "total_pgfault", 1), scaled(stat, "total_pgmajfault", 1)
	m.workingSet = less(m.usage, stat["total_inactive_file"])
	m.failures, m.peak = h.number(at("memory", "memory.failcnt")), h.number(at("memory", "memory.max_usage_in_bytes"))
	m.limit = limit(h.number(at("memory", "memory.limit_in_bytes")))
	if both := limit(h.number(at("memory", "memory.memsw.limit_in_bytes"))); both != nil && m.limit != nil {
		m.swapLimit = less(both, *m.limit)
	}
	g.threads, g.maxThreads = h.number(at("pids", "pids.current")), h.number(at("pids", "pids.max"))
	g.processes = h.processes(at("pids", "cgroup.procs"))
	g.disks = h.disksV1(at("blkio", "blkio.throttle.io_service_bytes"), at("blkio", "blkio.throttle.io_serviced"))
	return g
}

func (h host) groupV2(dir string) group {
	var g group
	at := func(name string) string { return h.file(dir, "", name) }
	stat := h.fields(at("cpu.stat"))
	const micro = uint64(time.Microsecond)
	g.cpu.total, g.cpu.user, g.cpu.system = scaled(stat, "usage_usec", micro), scaled(stat, "user_usec", micro), scaled(stat, "system_usec", micro)
	g.cpu.periods, g.cpu.throttled, g.cpu.throttledTime = scaled(stat, "nr_periods", 1), scaled(stat, "nr_throttled", 1), scaled(stat, "throttled_usec", micro)
	if w := h.number(at("cpu.weight")); w != nil && *w > 0 {
		// The kubelet's own way back from weights 1..10000 to shares 2..262144.
		g.cpu.shares = new(2 + (*w-1)*262142/9999)
	}
	if quota, period, ok := strings.Cut(strings.TrimSpace(h.text(at("cpu.max"))), " "); ok {
		g.cpu.quota, g.cpu.quotaPeriods = number(quota), number(period)
	}

	stat = h.fields(at("memory.stat"))
	m := &g.memory
	m.usage = h.number(at("memory.current"))
	m.rss, m.cache, m.mapped = scaled(stat, "anon", 1), scaled(stat, "file", 1), scaled(stat, "file_mapped", 1)
	m.faults, m.majorFaults = scaled(stat, "pgfault", 1), scaled(stat, "pgmajfault", 1)
	m.workingSet = less(m.usage, stat["inactive_file"])
	m.failures, m.peak = scaled(h.fields(at("memory.events")), "max", 1), h.number(at("memory.peak"))
	m.limit, m.swapLimit = h.number(at("memory.max")), h.number(at("memory.swap.max"))
	m.swap = h.number(at("memory.swap.current"))

	g.threads, g.maxThreads = h.number(at("pids.current")), h.number(at("pids.max"))
	g.processes = h.processes(at("cgroup.procs"))
	g.disks = h.disksV2(at("io.stat"))
	g.cpuPressure, g.memoryPressure, g.ioPressure = h.pressure(at("cpu.pressure")), h.pressure(at("memory.pressure")), h.pressure(at("io.pressure"))
	return g
}

// processes counts those of the group itself.
func (h host) processes(file string) *uint64 {
	b, err := fs.ReadFile(h.fs, file)
	if err != nil {
		return nil
	}
	return new(uint64(strings.Count(string(b), "\n")))
}

// disksV1 reads lines such as "8:0 Read 4096".
func (h host) disksV1(bytesFile, countFile string) []diskUse {
	var out diskList
	for i, file := range []string{bytesFile, countFile} {
		for line := range strings.Lines(h.text(file)) {
			f := strings.Fields(line)
			if len(f) != 3 {
				continue
			}
			n := number(f[2])
			if n == nil {
				continue
			}
			d := out.device(f[0])
			switch {
			case i == 0 && f[1] == "Read":
				d.read, d.hasBytes = *n, true
			case i == 0 && f[1] == "Write":
				d.written, d.hasBytes = *n, true
			case i == 1 && f[1] == "Read":
				d.reads, d.hasReadsAndWrite = *n, true
			case i == 1 && f[1] == "Write":
				d.writes, d.hasReadsAndWrite = *n, true
			}
		}
	}
	return out
}

// disksV2 reads lines such as "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 ...".
func (h host) disksV2(file string) []diskUse {
	var out diskList
	for line := range strings.Lines(h.text(file)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		d := out.device(f[0])
		for _, kv := range f[1:] {
			k, v, _ := strings.Cut(kv, "=")
			n := number(v)
			if n == nil {
				continue
			}
			switch k {
			case "rbytes":
				d.read, d.hasBytes = *n, true
			case "wbytes":
				d.written, d.hasBytes = *n, true
			case "rios":
				d.reads, d.hasReadsAndWrite = *n, true
			case "wios":
				d.writes, d.hasReadsAndWrite = *n, true
			}
		}
	}
	return out
}

type diskList []diskUse

// device gives the entry of a device, which is good until the next call.
func (l *diskList) device(number string) *diskUse {
	for i := range *l {
		if (*l)[i].device == number {
			return &(*l)[i]
		}
	}
	*l = append(*l, diskUse{device: number})
	return &(*l)[len(*l)-1]
}

// pressure reads lines such as "some avg10=0.00 avg60=0.00 avg300=0.00 total=0".
func (h host) pressure(file string) *pressure {
	text := h.text(file)
	if text == "" {
		return nil
	}
	out := &pressure{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		s := &out.some
		if f[0] == "full" {
			s = &out.full
		}
		for _, kv := range f[1:] {
			k, v, _ := strings.Cut(kv, "=")
			avg, err := strconv.ParseFloat(v, 64)
			if err != nil || math.IsNaN(avg) || math.IsInf(avg, 0) {
				continue
			}
			switch k {
			case "avg10":
				s.avg10 = avg
			case "avg60":
				s.avg60 = avg
			case "avg300":
				s.avg300 = avg
			case "total":
				if n := number(v); n != nil {
					s.total = *n * uint64(time.Microsecond)
				}
			}
		}
	}
	return out
}

// scaled gives a field times factor, nil where there is none.
func scaled(m map[string]uint64, name string, factor uint64) *uint64 {
	n, ok := m[name]
	if !ok {
		return nil
	}
	return new(n * factor)
}

// less gives a minus b, at least 0.
func less(a *uint64, b uint64) *uint64 {
	if a == nil {
		return nil
	}
	return new(*a - min(*a, b))
}

func limit(n *uint64) *uint64 {
	if n == nil || *n >= noLimit {
		return nil
	}
	return n
}
