package lab

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// commandWait bounds how long a killed command may keep its pipes open by
// children that hold them.
const commandWait = 5 * time.Second

// CommandError is a command that failed.
type CommandError struct {
	Args   []string
	Err    error
	Stderr string
}

func (e *CommandError) Error() string {
	text := strings.TrimSpace(e.Stderr)
	if text == "" {
		text = e.Err.Error()
	}
	return fmt.Sprintf("%s: %s", brief(e.Args), text)
}

// Unwrap gives the *exec.ExitError, for the exit code.
func (e *CommandError) Unwrap() error { return e.Err }

// brief is a command line short enough for a message.
func brief(args []string) string {
	short := append([]string{filepath.Base(args[0])}, args[1:]...)
	if len(short) > 6 {
		short = append(short[:6], "...")
	}
	return strings.Join(short, " ")
}

// run runs a command and returns its standard output.
func (l *Lab) run(ctx context.Context, args ...string) (string, error) {
	return l.runInput(ctx, nil, args...)
}

func (l *Lab) runInput(ctx context.Context, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, cmp.Or(lookPath(args[0]), args[0]), args[1:]...)
	cmd.Env, cmd.Stdin = l.Environ(), bytes.NewReader(stdin)
	out, _, err := output(cmd)
	return out, err
}

// output runs a command and gives what it has said, whether or not it succeeds.
func output(cmd *exec.Cmd) (stdout, stderr string, err error) {
	cmd.WaitDelay = commandWait
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err = cmd.Run(); err != nil {
		err = &CommandError{Args: cmd.Args, Err: err, Stderr: errs.String()}
	}
	return out.String(), errs.String(), err
}

// Environ is the environment of what belongs to the lab: Down ends what has it.
func (l *Lab) Environ() []string { return append(os.Environ(), l.mark(), l.nameMark()) }

// runAll runs commands until one fails.
func (l *Lab) runAll(ctx context.Context, commands ...[]string) error {
	for _, args := range commands {
		if _, err := l.run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// inNetns puts a command into a network namespace. It is nsenter, since "ip
// netns exec" mounts a new /sys and so hides /sys/fs/cgroup.
func inNetns(netns string, args []string) []string {
	if netns == "" {
		return args
	}
	return append([]string{"nsenter", "--net=" + netnsFile(netns)}, args...)
}

func netnsFile(netns string) string { return filepath.Join("/run/netns", netns) }

// lookPath finds a program in PATH and where administrators keep theirs.
func lookPath(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path := filepath.Join(dir, name); exists(path) {
			return path
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
