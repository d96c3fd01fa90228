package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// reportDir is where a run's report and output go, below the lab's directory.
const reportDir = "report"

// suite runs the tests. That some fail is no error.
func (b *bed) suite(ctx context.Context, slow []string) ([]spec, error) {
	dir := b.lab.Path(reportDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	out, err := os.Create(filepath.Join(dir, "ginkgo.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	bin, err := filepath.Abs(b.bin)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "ginkgo"), b.arguments(bin, dir, slow)...)
	cmd.Dir = dir
	cmd.Env = append(b.lab.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = out, out
	// ginkgo ends its processes on SIGINT, unless one of them hangs: all are in a group
	// of their own, of which nothing stays.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	defer func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	}()
	begin := time.Now()
	err = b.watch(ctx, cmd, out.Name())
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	reports, readErr := readReport(filepath.Join(dir, reportFile))
	if readErr != nil {
		return nil, errors.Join(fmt.Errorf("the suite has left no report, see %s", out.Name()), err, readErr)
	}
	b.log.Info("suite ended", "took", time.Since(begin).Round(time.Second))
	return reports, nil
}

// arguments are ginkgo's, and after "--" those of the tests.
func (b *bed) arguments(bin, dir string, slow []string) []string {
	args := []string{
		"--procs", strconv.Itoa(b.procs), "--timeout", strconv.Itoa(b.minutes) + "m", "--no-color",
		"--json-report", reportFile, "--output-dir", dir, "--label-filter", b.label,
	}
	if b.focus != "" {
		args = append(args, "--focus", b.focus)
	}
	if b.short {
		var exact []string
		for _, name := range slow {
			exact = append(exact, regexp.QuoteMeta(name))
		}
		args = append(args, "--skip", strings.Join(exact, "|"))
	}
	return append(args, filepath.Join(bin, "e2e.test"), "--",
		"--kubeconfig", b.lab.Kubeconfig(), "--kubectl-path", b.lab.Bin("kubectl"), "--provider", "local", "--num-nodes", "1",
		"--allowed-not-ready-nodes", "0", "--minStartupPods", "0", "--dump-logs-on-failure=false", "--disable-log-dump",
	)
}

// watch runs cmd and tells twice a minute how many tests have ended: their output
// has one of these marks for each.
func (b *bed) watch(ctx context.Context, cmd *exec.Cmd, log string) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			ended, failed, err := progress(log)
			if err != nil && ctx.Err() == nil {
				b.log.Warn("no progress to be seen", "error", err)
			}
			b.log.Info("running", "ended", ended, "failed", failed)
		}
	}
}

func progress(log string) (ended, failed int, err error) {
	f, err := os.Open(log)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(f)
	return strings.Count(string(text), "•"), strings.Count(string(text), "• [FAILED]"), err
}
