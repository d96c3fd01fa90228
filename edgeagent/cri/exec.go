package cri

import (
	"context"
	"fmt"
	"io"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Size is the size of a terminal in characters.
type Size struct{ Width, Height uint16 }

// ExecOptions says what to run and where its bytes go.
type ExecOptions struct {
	// Container is the id of a running container. Required.
	Container string
	// Cmd is the command with its arguments. Required.
	Cmd []string
	// TTY allocates a terminal; the runtime then sends everything on Stdout.
	TTY bool
	// Stdin, Stdout and Stderr are attached where they are not nil. Exec may
	// return while a Read of Stdin is still blocked: the caller unblocks it. It
	// never returns while a Write is going on.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Resize carries terminal sizes until it is closed. Nil means a fixed size.
	Resize <-chan Size
}

// AttachOptions says which container to join and where its bytes go; the
// fields mean what they mean in ExecOptions.
type AttachOptions struct {
	Container      string
	TTY            bool
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size
}

// Exec runs a command in a container and returns its exit code. The error is
// nil whenever the command ran and ended, whatever its code. Ending ctx cuts the
// streams; the runtime then ends the command's terminal or pipes.
func (c *Client) Exec(ctx context.Context, o ExecOptions) (int, error) {
	if len(o.Cmd) == 0 {
		return 0, fmt.Errorf("exec in container %s: no command", o.Container)
	}
	call, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.Exec(call, &runtimev1.ExecRequest{
		ContainerId: o.Container, Cmd: o.Cmd, Tty: o.TTY,
		Stdin: o.Stdin != nil, Stdout: o.Stdout != nil, Stderr: o.Stderr != nil && !o.TTY,
	})
	if err != nil {
		return 0, c.wrap("exec", err)
	}
	code, err := remoteCommand(ctx, r.GetUrl(), streams{tty: o.TTY, stdin: o.Stdin, stdout: o.Stdout, stderr: o.Stderr, resize: o.Resize})
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", o.Container, err)
	}
	return code, nil
}

// Attach joins the standard streams of a running container and returns when
// the container ends, ctx ends or the streams are cut.
func (c *Client) Attach(ctx context.Context, o AttachOptions) error {
	call, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.Attach(call, &runtimev1.AttachRequest{
		ContainerId: o.Container, Tty: o.TTY,
		Stdin: o.Stdin != nil, Stdout: o.Stdout != nil, Stderr: o.Stderr != nil && !o.TTY,
	})
	if err != nil {
		return c.wrap("attach", err)
	}
	_, err = remoteCommand(ctx, r.GetUrl(), streams{tty: o.TTY, stdin: o.Stdin, stdout: o.Stdout, stderr: o.Stderr, resize: o.Resize})
	if err != nil {
		return fmt.Errorf("attach to container %s: %w", o.Container, err)
	}
	return nil
}

// ExecResult is the outcome of ExecSync.
type ExecResult struct {
	ExitCode       int32
	Stdout, Stderr []byte
}

// ExecSync runs a short command, as probes and hooks need it, and collects its
// output, which the runtime bounds to 16 MB. Zero timeout means no limit but ctx.
func (c *Client) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (ExecResult, error) {
	if timeout > 0 {
		// The runtime kills the command at its own timeout and says so; ours only
		// guards against a runtime that does not answer.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout+shortCall)
		defer cancel()
	}
	r, err := c.runtime.ExecSync(ctx, &runtimev1.ExecSyncRequest{
		ContainerId: id, Cmd: cmd, Timeout: int64((timeout + time.Second - 1) / time.Second),
	})
	if err != nil {
		return ExecResult{}, c.wrap("exec", err)
	}
	return ExecResult{ExitCode: r.GetExitCode(), Stdout: r.GetStdout(), Stderr: r.GetStderr()}, nil
}
