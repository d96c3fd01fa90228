package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// mega is what a megabyte of the results has.
	mega = 1e6
	// userHz is how many ticks a second the kernel counts CPU time in, on all
	// platforms that Go knows.
	userHz = 100
)

// memory is that of a process, in MB: resident, of no file, and with shared pages
// divided by those who share them.
type memory struct{ vmrss, rssanon, pss float64 }

func readMemory(pid int) (memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	return parseMemory(string(status), string(rollup))
}

// parseMemory finds the figures in what the kernel says, in kB of 1024 bytes.
func parseMemory(status, rollup string) (memory, error) {
	var m memory
	var errs []error
	for _, f := range []struct {
		text, field string
		to          *float64
	}{{status, "VmRSS", &m.vmrss}, {status, "RssAnon", &m.rssanon}, {rollup, "Pss", &m.pss}} {
		_, rest, ok := strings.Cut("\n"+f.text, "\n"+f.field+":")
		line, _, _ := strings.Cut(rest, "\n")
		kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(line, "kB")), 64)
		if !ok || err != nil {
			errs = append(errs, fmt.Errorf("field %s: found %t, value %q", f.field, ok, line))
		}
		*f.to = kb * 1024 / mega
	}
	return m, errors.Join(errs...)
}

// cpuTime is what a process has used of all CPUs.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseCPU(string(b))
}

// parseCPU reads user and system time, the 14th and 15th field; the second is a name
// in parentheses.
func parseCPU(stat string) (time.Duration, error) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 13 {
		return 0, fmt.Errorf("malformed stat line %q", stat)
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	system, systemErr := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * time.Second / userHz, errors.Join(err, systemErr)
}
