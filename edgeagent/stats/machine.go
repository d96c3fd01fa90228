package stats

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// machine is what the whole machine uses. Its memory is that of /proc: the root
// group of version 2 has none, and that of version 1 knows only what was charged.
type machine struct {
	group

	booted           time.Time
	cores            uint64
	installed        uint64 // bytes of memory
	swapTotal        *uint64
	tasks            *uint64
	maxTasks         *uint64
	networks         []network
	defaultInterface string
}

func (h host) machine() machine {
	var m machine
	m.cpu, m.cores, m.booted = h.machineCPU()
	info := h.meminfo()
	m.installed = info["MemTotal"]
	if total, free := info["MemTotal"], info["MemFree"]; total > 0 {
		u := &m.memory
		u.usage = new(total - min(total, free))
		u.workingSet = less(u.usage, info["Inactive(file)"])
		u.rss, u.cache, u.mapped = scaled(info, "AnonPages", 1), scaled(info, "Cached", 1), scaled(info, "Mapped", 1)
		u.limit = &total
		if swap := info["SwapTotal"]; swap > 0 {
			m.swapTotal, u.swap, u.swapLimit = &swap, new(swap-min(swap, info["SwapFree"])), &swap
		}
	}
	vm := h.fields("proc/vmstat")
	m.memory.faults, m.memory.majorFaults = scaled(vm, "pgfault", 1), scaled(vm, "pgmajfault", 1)
	m.cpuPressure, m.memoryPressure, m.ioPressure = h.pressure("proc/pressure/cpu"), h.pressure("proc/pressure/memory"), h.pressure("proc/pressure/io")
	m.tasks = h.tasks()
	m.maxTasks = h.number("proc/sys/kernel/pid_max")
	if threads := h.number("proc/sys/kernel/threads-max"); threads != nil && (m.maxTasks == nil || *threads < *m.maxTasks) {
		m.maxTasks = threads
	}
	m.networks = h.networks("proc/net/dev")
	m.defaultInterface = h.defaultInterface()
	return m
}

// machineCPU adds up the first line of /proc/stat, without idle and iowait, and
// without guests, who are in user time already.
func (h host) machineCPU() (use cpuUse, cores uint64, booted time.Time) {
	for line := range strings.Lines(h.text("proc/stat")) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 8 && f[0] == "cpu":
			var v [9]uint64
			for i := range f[1:min(len(f), len(v))] {
				if n := number(f[i+1]); n != nil {
					v[i] = *n
				}
			}
			const tick = uint64(time.Second) / ticks
			user, system := (v[0]+v[1])*tick, (v[2]+v[5]+v[6]+v[7])*tick
			use.user, use.system, use.total = &user, &system, new(user+system)
		case len(f) > 0 && strings.HasPrefix(f[0], "cpu"):
			cores++
		case len(f) == 2 && f[0] == "btime":
			if s, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				booted = time.Unix(s, 0)
			}
		}
	}
	return use, cores, booted
}

// meminfo gives /proc/meminfo in bytes.
func (h host) meminfo() map[string]uint64 {
	out := map[string]uint64{}
	for line := range strings.Lines(h.text("proc/meminfo")) {
		name, value, _ := strings.Cut(line, ":")
		if n := number(strings.TrimSuffix(strings.TrimSpace(value), " kB")); n != nil {
			out[name] = *n << 10
		}
	}
	return out
}

// tasks takes the number of threads out of "0.1 0.2 0.3 2/345 678".
func (h host) tasks() *uint64 {
	f := strings.Fields(h.text("proc/loadavg"))
	if len(f) < 4 {
		return nil
	}
	_, all, _ := strings.Cut(f[3], "/")
	return number(all)
}

// network is the traffic of one interface.
type network struct {
	name                                    string
	rxBytes, rxPackets, rxErrors, rxDropped uint64
	txBytes, txPackets, txErrors, txDropped uint64
}

// networks reads a file like /proc/net/dev, without what only this machine or
// its pods use among themselves.
func (h host) networks(file string) []network {
	var out []network
	for line := range strings.Lines(h.text(file)) {
		name, rest, ok := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		f := strings.Fields(rest)
		if !ok || len(f) < 12 || name == "lo" || strings.HasPrefix(name, "veth") {
			continue
		}
		n := network{name: name}
		for i, to := range map[int]*uint64{
			0: &n.rxBytes, 1: &n.rxPackets, 2: &n.rxErrors, 3: &n.rxDropped,
			8: &n.txBytes, 9: &n.txPackets, 10: &n.txErrors, 11: &n.txDropped,
		} {
			if v := number(f[i]); v != nil {
				*to = *v
			}
		}
		out = append(out, n)
	}
	return out
}

// defaultInterface is that of the first default route.
func (h host) defaultInterface() string {
	for line := range strings.Lines(h.text("proc/net/route")) {
		if f := strings.Fields(line); len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" {
			return f[0]
		}
	}
	return ""
}

// podNetworks are the interfaces of a group's processes, nil when they use the
// machine's own or there are no processes.
func (h host) podNetworks(dirs []string) []network {
	own, err := fs.ReadLink(h.fs, "proc/self/ns/net")
	if err != nil {
		return nil
	}
	for _, dir := range dirs {
		for pid := range strings.Lines(h.text(h.file(dir, "memory", "cgroup.procs"))) {
			pid = strings.TrimSpace(pid)
			if number(pid) == nil {
				continue
			}
			ns, err := fs.ReadLink(h.fs, path.Join("proc", pid, "ns/net"))
			if err != nil {
				continue // it has just ended
			}
			if ns == own {
				return nil
			}
			list := h.networks(path.Join("proc", pid, "net/dev"))
			// A pod's own comes first.
			if i := slices.IndexFunc(list, func(n network) bool { return n.name == podInterface }); i > 0 {
				list[0], list[i] = list[i], list[0]
			}
			return list
		}
	}
	return nil
}

// podInterface is what the CRI runtimes call the first interface of a pod.
const podInterface = "eth0"

// deviceName gives the file of a block device by its number, such as 8:0.
func (h host) deviceName(number string) string {
	for line := range strings.Lines(h.text("sys/dev/block", number, "uevent")) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			return "/dev/" + name
		}
	}
	return number
}
