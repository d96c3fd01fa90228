package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// marker is the environment variable by which all that a lab has started can
// be told from everything else; its value is the lab's directory. containerd
// hands it on to its shims, but not to containers.
const (
	marker     = "SKERRY_LAB_DIR"
	nameMarker = "SKERRY_LAB_NAME"
	edgeMarker = "SKERRY_LAB_EDGE" // what an edge has started has this too; its value is the edge's directory
)

func (l *Lab) mark() string     { return marker + "=" + l.cfg.Dir }
func (l *Lab) nameMark() string { return nameMarker + "=" + l.cfg.Name }
func (e *Edge) mark() string    { return edgeMarker + "=" + e.Path() }

// daemon is a program that runs in the background.
type daemon struct {
	name  string // of its pid file and log
	netns string // "" is the root namespace
	args  []string
	env   []string
}

// identity tells one process from every other: a pid is used again, the pair
// with its start time is not, within one boot.
type identity struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks"`
	Boot       string `json:"boot"`
}

func (l *Lab) pidFile(name string) string { return l.Path("run", name+".pid") }

// stopGrace is what a daemon gets to end before it is killed.
const stopGrace = 20 * time.Second

// replaced tells whether the program of a process is no longer the file that it
// was started from.
func replaced(pid int) bool {
	exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	return err == nil && strings.HasSuffix(exe, " (deleted)")
}

// start runs d unless it runs already, detached: own session, no terminal,
// output appended to its log. One whose program was built anew is started anew.
func (l *Lab) start(ctx context.Context, d daemon) error {
	if pid, ok := l.PID(d.name); ok {
		if !replaced(pid) {
			return nil
		}
		l.log.Debug("program was built anew", "daemon", d.name)
		if err := l.stop(ctx, d.name, stopGrace); err != nil {
			return err
		}
	}
	log := l.LogFile(d.name)
	for _, file := range []string{l.pidFile(d.name), log} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	args := inNetns(d.netns, d.args)
	cmd := &exec.Cmd{
		Path: lookPath(args[0]), Args: args, Dir: l.cfg.Dir,
		Env:    append(l.Environ(), d.env...),
		Stdout: out, Stderr: out,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	id, _, err := observe(cmd.Process.Pid)
	if err == nil {
		var b []byte
		if b, err = json.Marshal(id); err == nil {
			err = os.WriteFile(l.pidFile(d.name), b, 0o600)
		}
	}
	if err != nil { // what is not written down could not be stopped later
		return errors.Join(fmt.Errorf("start %s: %w", d.name, err), cmd.Process.Kill())
	}
	l.log.Debug("started", "daemon", d.name, "pid", id.PID)
	return nil
}

// PID is the process of a daemon, if it runs.
func (l *Lab) PID(name string) (int, bool) {
	b, err := os.ReadFile(l.pidFile(name))
	if err != nil {
		return 0, false
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil {
		return 0, false
	}
	return id.PID, alive(id)
}

// alive tells whether the process still runs. An ended child of this process
// is reaped on the way, so that no zombie stays.
func alive(id identity) bool {
	now, state, err := observe(id.PID)
	if err != nil || now != id {
		return false
	}
	if state != 'Z' {
		return true
	}
	// The first thread of a killed process may be gone while others still end, and
	// keep its files open and locked.
	if threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(id.PID), "task", "*")); err == nil && len(threads) > 1 {
		return true
	}
	_, _ = syscall.Wait4(id.PID, nil, syscall.WNOHANG, nil) // fails for what is nobody's child of ours
	return false
}

// Signal sends sig to a daemon if it runs.
func (l *Lab) Signal(name string, sig syscall.Signal) error {
	pid, ok := l.PID(name)
	if !ok {
		return nil
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %s: %w", name, err)
	}
	return nil
}

// stop ends a daemon: SIGTERM, and SIGKILL after grace.
func (l *Lab) stop(ctx context.Context, name string, grace time.Duration) error {
	gone := func() error {
		if pid, ok := l.PID(name); ok {
			return fmt.Errorf("%s (process %d) still runs", name, pid)
		}
		return nil
	}
	if grace > 0 {
		if err := l.Signal(name, syscall.SIGTERM); err != nil {
			return err
		}
	}
	if Until(ctx, grace, "end of "+name, gone) != nil {
		if err := l.Signal(name, syscall.SIGKILL); err != nil {
			return err
		}
		if err := Until(ctx, 10*time.Second, "end of killed "+name, gone); err != nil {
			return err
		}
	}
	if err := os.Remove(l.pidFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ready polls probe until it holds; it gives up at once when the daemon ended.
func (l *Lab) ready(ctx context.Context, name string, timeout time.Duration, probe func() error) error {
	err := Until(ctx, timeout, name+" to be ready", func() error {
		if _, ok := l.PID(name); !ok {
			return Final(fmt.Errorf("%s ended: %s", name, lastLine(l.LogFile(name))))
		}
		return probe()
	})
	if err != nil {
		return fmt.Errorf("%w (log: %s)", err, l.LogFile(name))
	}
	return nil
}

// observe reads the identity and state of a process.
func observe(pid int) (identity, byte, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return identity{}, 0, err
	}
	st, err := parseStat(stat)
	if err != nil {
		return identity{}, 0, fmt.Errorf("process %d: %w", pid, err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return identity{}, 0, err
	}
	return identity{PID: pid, StartTicks: st.startTicks, Boot: strings.TrimSpace(string(boot))}, st.state, nil
}

// stat is what we need of /proc/PID/stat.
type stat struct {
	state      byte
	parent     int
	startTicks uint64
}

// parseStat reads the fields behind the program's name, which is in
// parentheses and may hold spaces and parentheses itself.
func parseStat(b []byte) (stat, error) {
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 || len(f[0]) != 1 {
		return stat{}, errors.New("malformed stat line")
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return stat{}, fmt.Errorf("malformed stat line: %w", err)
	}
	ticks, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("malformed stat line: %w", err)
	}
	return stat{state: f[0][0], parent: parent, startTicks: ticks}, nil
}

// lastLine is the last line of a log, for messages.
func lastLine(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
