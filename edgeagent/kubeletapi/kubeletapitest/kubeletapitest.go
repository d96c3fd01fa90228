// Package kubeletapitest has what tests need to run the edge's kubelet API
// without a container runtime: commands are processes of this machine, pods are
// a table. Tests of the cloud's end use it too, to have a real edge to talk to.
package kubeletapitest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
)

// Runtime runs commands as processes. The zero value is ready.
type Runtime struct {
	// Override, when not nil, is called instead of running a process.
	Override func(ctx context.Context, o cri.ExecOptions) (int, error)
	// OnAttach, when not nil, is called for Attach; nil finds no container.
	OnAttach func(ctx context.Context, o cri.AttachOptions) error
	// OnDial, when not nil, is called for DialPod; nil dials this machine.
	OnDial func(ctx context.Context, port uint16) (net.Conn, error)
}

// Attach implements kubeletapi.Runtime.
func (r Runtime) Attach(ctx context.Context, o cri.AttachOptions) error {
	if r.OnAttach == nil {
		return fmt.Errorf("attach to %s: %w", o.Container, cri.ErrNotFound)
	}
	return r.OnAttach(ctx, o)
}

// DialPod implements kubeletapi.Runtime: ports of pods are those of this machine.
func (r Runtime) DialPod(ctx context.Context, _ string, port uint16) (net.Conn, error) {
	if r.OnDial != nil {
		return r.OnDial(ctx, port)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
}

// Exec implements kubeletapi.Runtime, without a terminal.
func (r Runtime) Exec(ctx context.Context, o cri.ExecOptions) (int, error) {
	if r.Override != nil {
		return r.Override(ctx, o)
	}
	cmd := exec.CommandContext(ctx, o.Cmd[0], o.Cmd[1:]...)
	cmd.WaitDelay = time.Second
	cmd.Stdout, cmd.Stderr = o.Stdout, o.Stderr
	if o.Stdin != nil {
		// Not cmd.Stdin: Wait would wait for a Read that ends only after Exec has.
		in, err := cmd.StdinPipe()
		if err != nil {
			return 0, fmt.Errorf("open input: %w", err)
		}
		go func() {
			_, _ = io.Copy(in, o.Stdin)
			_ = in.Close()
		}()
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", o.Cmd[0], err)
	}
	return 0, nil
}

// Pods is a table of pods that may be changed at any time. Its zero value is empty.
type Pods struct {
	mu   sync.Mutex // guards the following field
	pods map[string]kubeletapi.Pod
}

// Set adds or replaces a pod.
func (p *Pods) Set(pod kubeletapi.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pods == nil {
		p.pods = map[string]kubeletapi.Pod{}
	}
	p.pods[pod.Namespace+"/"+pod.Name] = pod
}

// Lookup implements kubeletapi.Pods.
func (p *Pods) Lookup(namespace, name, uid string) (kubeletapi.Pod, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pod, ok := p.pods[namespace+"/"+name]
	return pod, ok && (uid == "" || uid == pod.UID)
}
