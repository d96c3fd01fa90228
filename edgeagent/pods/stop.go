package pods

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// stopPoll is how often is looked whether a container has ended by a signal that
// the runtime did not send.
const stopPoll = 200 * time.Millisecond

// stopSignal is the signal that the container wants to be ended by; empty leaves it
// to its image.
func stopSignal(c *corev1.Container) string {
	if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
		return ""
	}
	return string(*c.Lifecycle.StopSignal)
}

// stop ends a container by its signal, then by force. A runtime that knows of no
// signals but images' does not send it: then it comes from here.
func (e *env) stop(ctx context.Context, s *snapshot, a action, grace time.Duration) error {
	c, have := findContainer(s.pod, a.container), s.obs.find(a.id)
	if c == nil || have == nil || stopSignal(c) == "" || have.stopSignal != "" {
		return e.cri.StopContainer(ctx, a.id, grace)
	}
	if err := e.sendSignal(ctx, a.id, stopSignal(c)); err != nil {
		e.Log.Warn("stop signal not sent", "pod", s.ref.Name, "namespace", s.ref.Namespace, "container", a.container, "error", err)
		return e.cri.StopContainer(ctx, a.id, grace)
	}
	deadline := time.Now().Add(grace)
	for time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(stopPoll):
		}
		st, err := e.cri.ContainerStatus(ctx, a.id)
		if errors.Is(err, cri.ErrNotFound) || err == nil && st.State != cri.StateRunning {
			break
		}
	}
	return e.cri.StopContainer(ctx, a.id, 0)
}

// sendSignal sends a signal to the first process of a container.
func (e *env) sendSignal(ctx context.Context, id, name string) error {
	sig := signalNumber(name)
	if sig == 0 {
		return fmt.Errorf("unknown signal %s", name)
	}
	pid, err := e.cri.MainPID(ctx, id)
	if err != nil {
		return err
	}
	// Between the answer and now it may have ended, and its number be another's.
	groups, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err == nil && !strings.Contains(string(groups), id) {
		return fmt.Errorf("send %s: process %d is not the container's", name, pid) // as with virtual machines
	}
	if err := e.signal(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s: %w", name, err)
	}
	return nil
}

// The real-time signals that programs may use, and their names' beginnings.
const (
	firstRealTime = 34
	lastRealTime  = 64
)

// signalNumber knows the API's names of signals; zero for any other.
func signalNumber(name string) syscall.Signal {
	for prefix, base := range map[string]int{"SIGRTMIN": firstRealTime, "SIGRTMAX": lastRealTime} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		offset := 0
		if rest != "" {
			var err error
			if offset, err = strconv.Atoi(rest); err != nil {
				return 0
			}
		}
		if n := base + offset; n >= firstRealTime && n <= lastRealTime {
			return syscall.Signal(n)
		}
		return 0
	}
	switch name {
	case "SIGCLD":
		return unix.SIGCHLD
	case "SIGPOLL":
		return unix.SIGIO
	default:
		return unix.SignalNum(name)
	}
}
