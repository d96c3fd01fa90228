package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one component in the background. Its description is a file, so
// that a later devcluster finds what an earlier one started.
type process struct {
	name string
	file string // of the description
	log  string
	desc description
	cmd  *exec.Cmd // set when this devcluster is the parent
}

// description tells one process from every other on this machine.
type description struct {
	PID int `json:"pid"`
	// StartTicks is when it started, in clock ticks after the boot: ids are
	// used again, the pair is not.
	StartTicks uint64 `json:"start_ticks"`
	// BootID is the boot that the ticks count from.
	BootID string   `json:"boot_id"`
	Args   []string `json:"args"`
	// ReadyURL answers 200 when the component serves.
	ReadyURL string `json:"ready_url"`
}

// process reads the description of a component; of one that was never started
// it is empty.
func (p *Plane) process(component string) (*process, error) {
	proc := &process{
		name: component,
		file: p.path("run", component+".json"),
		log:  p.path("log", component+".log"),
	}
	data, err := os.ReadFile(proc.file)
	if errors.Is(err, fs.ErrNotExist) {
		return proc, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &proc.desc); err != nil {
		return nil, fmt.Errorf("%s: %w (remove the file if no %s runs)", proc.file, err, component)
	}
	return proc, nil
}

// start runs program under the component's name, detached: its own session, no
// terminal, output to the log. A log of an earlier run is kept as .old.
func (proc *process) start(program string, args []string, readyURL string) error {
	if err := os.Rename(proc.log, proc.log+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	log, err := os.OpenFile(proc.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := &exec.Cmd{
		Path:        program,
		Args:        append([]string{proc.name}, args...),
		Dir:         "/",
		Stdout:      log,
		Stderr:      log,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", proc.name, err)
	}
	proc.cmd = cmd
	// The child is not waited for yet, so its entry in /proc exists even if it
	// has ended already.
	seen, err := describe(cmd.Process.Pid)
	if err == nil {
		proc.desc = seen.description
		proc.desc.Args, proc.desc.ReadyURL = args, readyURL
		err = proc.save()
	}
	if err != nil { // what could not be written down could not be stopped later
		return errors.Join(fmt.Errorf("start %s: %w", proc.name, err), cmd.Process.Kill())
	}
	return nil
}

func (proc *process) save() error {
	data, err := json.MarshalIndent(proc.desc, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(proc.file, append(data, '\n'))
}

// running reports whether the described process is alive.
func (proc *process) running() bool {
	if proc.desc.PID == 0 {
		return false
	}
	now, err := describe(proc.desc.PID)
	return err == nil && !now.zombie && proc.desc.same(now.description)
}

func (d description) same(o description) bool {
	return d.PID == o.PID && d.StartTicks == o.StartTicks && d.BootID == o.BootID
}

// stale reports whether the process was started otherwise than it would be now.
func (proc *process) stale(args []string, readyURL string) bool {
	return !slices.Equal(proc.desc.Args, args) || proc.desc.ReadyURL != readyURL
}

// exit says how a child of this devcluster ended. Only for one that is not running.
func (proc *process) exit() string {
	if proc.cmd == nil {
		return "ended"
	}
	if proc.cmd.ProcessState == nil {
		_ = proc.cmd.Wait() // the state says it all
	}
	return proc.cmd.ProcessState.String()
}

// signal reaches the described process or none: the handle is taken first and
// belongs to one process, then that process is looked at.
func (proc *process) signal(sig syscall.Signal) error {
	handle, err := os.FindProcess(proc.desc.PID)
	if err != nil {
		return err
	}
	defer func() { _ = handle.Release() }()
	if !proc.running() {
		return nil
	}
	if err := handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s (process %d): %w", proc.name, proc.desc.PID, err)
	}
	return nil
}

// stop asks, waits for grace, kills, and forgets the process. killed tells
// whether it had to be killed. Stopping what does not run does nothing.
func (proc *process) stop(ctx context.Context, grace time.Duration) (killed bool, err error) {
	if grace > 0 {
		if err := proc.signal(syscall.SIGTERM); err != nil {
			return false, err
		}
		if err := proc.waitGone(ctx, grace); err != nil {
			return false, err
		}
	}
	if proc.running() {
		killed = true
		if err := proc.signal(syscall.SIGKILL); err != nil {
			return true, err
		}
		if err := proc.waitGone(ctx, 10*time.Second); err != nil {
			return true, err
		}
		if proc.running() {
			return true, fmt.Errorf("%s (process %d) does not end even when killed", proc.name, proc.desc.PID)
		}
	}
	if err := os.Remove(proc.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return killed, err
	}
	proc.desc = description{}
	return killed, nil
}

// waitGone waits until the process is gone or d is over.
func (proc *process) waitGone(ctx context.Context, d time.Duration) error {
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for proc.running() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// observed is what /proc says about a process.
type observed struct {
	description
	zombie bool
}

func describe(pid int) (observed, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return observed{}, err
	}
	state, ticks, err := parseStat(stat)
	if err != nil {
		return observed{}, fmt.Errorf("process %d: %w", pid, err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return observed{}, err
	}
	desc := description{PID: pid, StartTicks: ticks, BootID: strings.TrimSpace(string(boot))}
	return observed{desc, state == 'Z' || state == 'X'}, nil
}

// parseStat reads the state (field 3) and the start time (field 22) of
// /proc/PID/stat. Field 2 is the program's name in parentheses and may hold
// spaces and parentheses itself, so fields count from the last ')'.
func parseStat(stat []byte) (state byte, startTicks uint64, err error) {
	i := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[i+1:]))
	if i < 0 || len(fields) < 20 || len(fields[0]) != 1 {
		return 0, 0, errors.New("malformed stat line")
	}
	startTicks, err = strconv.ParseUint(fields[19], 10, 64)
	return fields[0][0], startTicks, err
}
