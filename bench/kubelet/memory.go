package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// mega is what a megabyte of the results has.
const mega = 1e6

// memory is that of a process, in MB.
type memory struct{ resident, anonymous float64 }

func readMemory(pid int) (memory, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	return parseMemory(string(b))
}

// parseMemory finds the figures in /proc/PID/status.
func parseMemory(status string) (memory, error) {
	var m memory
	for field, to := range map[string]*float64{"VmRSS": &m.resident, "RssAnon": &m.anonymous} {
		_, rest, ok := strings.Cut("\n"+status, "\n"+field+":")
		line, _, _ := strings.Cut(rest, "\n")
		// The kernel writes kB and means 1024 bytes.
		kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(line, "kB")), 64)
		if !ok || err != nil {
			return m, fmt.Errorf("field %s: found %t, value %q", field, ok, line)
		}
		*to = kb * 1024 / mega
	}
	return m, nil
}
