package report

import (
	"io/fs"
	"runtime"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func (n *nodeReporter) text(path string) string {
	b, err := fs.ReadFile(n.cfg.Root, path)
	if err != nil {
		return "" // not every machine has every file
	}
	return strings.TrimSpace(string(b))
}

// meminfo gives the fields of /proc/meminfo in bytes.
func (n *nodeReporter) meminfo() map[string]uint64 {
	m := make(map[string]uint64)
	for line := range strings.Lines(n.text("proc/meminfo")) {
		name, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		v, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			continue
		}
		if len(fields) > 1 && fields[1] == "kB" {
			v <<= 10
		}
		m[name] = v
	}
	return m
}

func (n *nodeReporter) osImage() string {
	for line := range strings.Lines(n.text("etc/os-release")) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return runtime.GOOS
}

// cpus gives how many are online, whatever this process may use of them.
func (n *nodeReporter) cpus() int64 {
	total := int64(0)
	for part := range strings.SplitSeq(n.text("sys/devices/system/cpu/online"), ",") { // such as 0-3,6
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.ParseInt(first, 10, 32)
		if err != nil {
			return int64(runtime.NumCPU())
		}
		b := a
		if isRange {
			if b, err = strconv.ParseInt(last, 10, 32); err != nil || b < a {
				return int64(runtime.NumCPU())
			}
		}
		total += b - a + 1
	}
	return total
}

// hugePages gives the bytes of each size of huge pages that the kernel knows.
func (n *nodeReporter) hugePages() map[corev1.ResourceName]uint64 {
	const dir = "sys/kernel/mm/hugepages"
	entries, err := fs.ReadDir(n.cfg.Root, dir)
	if err != nil {
		return nil // a kernel without huge pages
	}
	pages := make(map[corev1.ResourceName]uint64)
	for _, e := range entries { // such as hugepages-2048kB
		text, ok := strings.CutSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB")
		if kib := number(text); ok && kib > 0 {
			size := kib << 10
			pages[corev1.ResourceName(corev1.ResourceHugePagesPrefix+bytesQuantity(size).String())] = size * number(n.text(dir+"/"+e.Name()+"/nr_hugepages"))
		}
	}
	return pages
}

// first gives the text of the first of these files that says something. Values of
// the device tree end with a zero byte.
func (n *nodeReporter) first(paths ...string) string {
	for _, p := range paths {
		if s := strings.TrimRight(n.text(p), "\x00"); s != "" {
			return s
		}
	}
	return ""
}

// number gives zero for what is none.
func number(s string) uint64 {
	v, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return 0
	}
	return v
}
