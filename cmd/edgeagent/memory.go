package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// gcPercent is GOGC. edgeagent/DESIGN.md has the measurements that it is chosen by: with
// half of Go's default the heap may grow by half of what lives in it.
const gcPercent = 50

// boundMemory has the garbage collector keep the agent small, and work harder before
// the kernel would kill the agent. GOGC and GOMEMLIMIT of the environment win.
func boundMemory(log *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit, err := memoryLimit(memlimit.FromCgroup, memlimit.FromSystem)
	if err != nil {
		log.Warn("the memory that the agent may use is unknown; it takes what it needs", "error", err)
		return
	}
	debug.SetMemoryLimit(limit)
	log.Debug("memory of the agent is bounded", "go_memory_limit", limit, "gc_percent", gcPercent)
}

// memoryLimit gives what Go's runtime may take, in bytes: half of the control group's
// limit, since the pages of the program are charged to it, too, and a quarter of the
// machine's memory at most, since the pods are what that is for.
func memoryLimit(group, machine memlimit.Provider) (int64, error) {
	total, err := machine()
	if err != nil {
		return 0, fmt.Errorf("memory of the machine: %w", err)
	}
	limit := total / 4
	switch bound, err := group(); {
	case err == nil:
		limit = min(limit, bound/2)
	case !errors.Is(err, memlimit.ErrNoLimit) && !errors.Is(err, memlimit.ErrNoCgroup):
		return 0, fmt.Errorf("limit of the control group: %w", err)
	}
	return int64(limit), nil //nolint:gosec // a quarter of a machine's memory
}
