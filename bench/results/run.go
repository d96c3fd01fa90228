package results

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Run is one run of a benchmark: when, of what, by which command, on what. A
// row belongs to the run of the same time.
type Run struct {
	When    time.Time `json:"when"`
	Commit  string    `json:"commit"`
	Command string    `json:"command"`
	CPU     string    `json:"cpu"`
	Cores   int       `json:"cores"`
	Kernel  string    `json:"kernel"`
	Go      string    `json:"go"`
}

// NewRun describes a run by command that begins now, on this machine, of the
// sources in the working directory.
func NewRun(ctx context.Context, command string) (Run, error) {
	commit, err := commit(ctx)
	if err != nil {
		return Run{}, err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return Run{}, err
	}
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return Run{}, err
	}
	return Run{
		When: time.Now().UTC().Truncate(time.Second), Commit: commit, Command: command,
		CPU: cpuModel(string(cpu)), Cores: runtime.NumCPU(),
		Kernel: strings.TrimSpace(string(kernel)), Go: runtime.Version(),
	}, nil
}

// commit names the sources. What a run of the benchmarks itself writes does
// not make them dirty.
func commit(ctx context.Context) (string, error) {
	head, err := git(ctx, "rev-parse", "--short=10", "HEAD")
	if err != nil {
		return "", err
	}
	changed, err := git(ctx, "status", "--porcelain", "--", ":/",
		":(top,exclude)bench/"+rowsFile, ":(top,exclude)bench/"+runsFile,
		":(top,exclude)bench/"+reportFile, ":(top,exclude)bench/"+plotsDir)
	if err != nil {
		return "", err
	}
	if changed != "" {
		head += "-dirty"
	}
	return head, nil
}

func git(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", args...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// cpuModel finds the model in what /proc/cpuinfo says.
func cpuModel(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}
