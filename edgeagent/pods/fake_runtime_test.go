package pods

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// fakeRuntime is a container runtime in memory, for order, failures and time.
// Containers do what behave says for their name.
type fakeRuntime struct {
	mu         sync.Mutex
	n          int
	sandboxes  []cri.Sandbox
	containers []cri.ContainerStatus
	sandboxOf  map[string]string
	images     map[string]bool
	calls      []string // with the time since start
	start      time.Time
	lists      int

	exitAfter  map[string]time.Duration // container name -> life; absent runs until stopped
	exitCode   map[string]int32
	deaf       map[string]bool // ignores the stop signal
	fail       map[string]error
	pullTime   time.Duration
	slow       map[string]time.Duration // how long the sandbox of a pod takes
	pid        int                      // of containers' first processes
	stopSignal string                   // of containers, where the runtime tells it
	skew       time.Duration            // how far the times that it tells are from the agent's
	logs       bool                     // containers have log files
	name       string
	mounts     []cri.Mount           // of the container made last
	users      map[string]*cri.Users // of the sandbox, or of the container made last, of a pod
}

func newFakeRuntime() *fakeRuntime {
	return &fakeRuntime{
		sandboxOf: map[string]string{}, images: map[string]bool{"docker.io/library/busybox:test": true},
		exitAfter: map[string]time.Duration{}, exitCode: map[string]int32{}, deaf: map[string]bool{}, fail: map[string]error{},
		users: map[string]*cri.Users{},
		pid:   noProcess, start: time.Now(),
	}
}

// noProcess is more than the kernel's highest number of a process.
const noProcess = 1<<22 + 1

// now is a time as a runtime tells it: of the machine's clock, which may be set.
func (f *fakeRuntime) now() time.Time { return time.Now().Round(0).Add(f.skew) }

func (f *fakeRuntime) note(format string, args ...any) {
	f.calls = append(f.calls, fmt.Sprintf("%v ", time.Since(f.start))+fmt.Sprintf(format, args...))
}

func (f *fakeRuntime) log() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.calls, "\n")
}

func (f *fakeRuntime) Version(context.Context) (cri.Version, error) {
	return cri.Version{Name: cmp.Or(f.name, "fake"), Version: "1.6.20"}, nil
}

func (f *fakeRuntime) RunSandbox(ctx context.Context, cfg *cri.SandboxConfig) (string, error) {
	f.mu.Lock()
	slow := f.slow[cfg.Name]
	f.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("sandbox %s#%d", cfg.Name, cfg.Attempt)
	if err := cmp.Or(f.fail["sandbox"], f.fail["sandbox "+cfg.Name]); err != nil {
		return "", err
	}
	f.users["sandbox "+cfg.Name] = cfg.Namespaces.Users
	f.n++
	id := fmt.Sprintf("sb%d", f.n)
	f.sandboxes = append(f.sandboxes, cri.Sandbox{
		ID: id, Name: cfg.Name, Namespace: cfg.Namespace, UID: cfg.UID, Attempt: cfg.Attempt, Ready: true, CreatedAt: f.now(), Labels: cfg.Labels,
	})
	return id, nil
}

func (f *fakeRuntime) StopSandbox(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.sandboxes {
		if f.sandboxes[i].ID == id {
			f.sandboxes[i].Ready = false
		}
	}
	return nil
}

func (f *fakeRuntime) RemoveSandbox(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("remove sandbox")
	f.sandboxes = slices.DeleteFunc(f.sandboxes, func(s cri.Sandbox) bool { return s.ID == id })
	return nil
}

func match(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func (f *fakeRuntime) ListSandboxes(_ context.Context, labels map[string]string) ([]cri.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if labels == nil {
		f.lists++
	}
	var out []cri.Sandbox
	for _, s := range f.sandboxes {
		if match(s.Labels, labels) {
			out = append(out, s)
		}
	}
	return out, f.fail["list"]
}

func (f *fakeRuntime) SandboxStatus(_ context.Context, id string) (cri.SandboxStatus, error) {
	return cri.SandboxStatus{Sandbox: cri.Sandbox{ID: id, Ready: true}, IPs: []string{"10.0.0.5"}}, nil
}

func (f *fakeRuntime) CreateContainer(_ context.Context, sandboxID string, cfg *cri.ContainerConfig, sandbox *cri.SandboxConfig) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("create %s#%d", cfg.Name, cfg.Attempt)
	f.mounts = cfg.Mounts
	f.users["container "+sandbox.Name] = cfg.Security.Namespaces.Users
	if err := f.fail["create"]; err != nil {
		return "", err
	}
	f.n++
	id := fmt.Sprintf("%s-%d", cfg.Name, f.n)
	st := cri.ContainerStatus{
		ID: id, Name: cfg.Name, State: cri.StateCreated, CreatedAt: f.now(), Labels: cfg.Labels, Annotations: cfg.Annotations, Image: cfg.UserImage, StopSignal: f.stopSignal,
	}
	if f.logs {
		st.LogPath = filepath.Join(sandbox.LogDirectory, cfg.LogPath)
		if err := os.WriteFile(st.LogPath, nil, 0o600); err != nil {
			return "", err
		}
	}
	f.containers = append(f.containers, st)
	f.sandboxOf[id] = sandboxID
	return id, nil
}

func (f *fakeRuntime) find(id string) *cri.ContainerStatus {
	for i := range f.containers {
		if f.containers[i].ID == id {
			return &f.containers[i]
		}
	}
	return nil
}

func (f *fakeRuntime) StartContainer(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.find(id)
	if err := f.fail["start"]; err != nil {
		c.State, c.ExitCode, c.Reason, c.FinishedAt = cri.StateExited, 128, "StartError", f.now()
		return err
	}
	c.State, c.StartedAt = cri.StateRunning, f.now()
	if life, ok := f.exitAfter[c.Name]; ok {
		code := f.exitCode[c.Name]
		time.AfterFunc(life, func() { f.exit(id, code) })
	}
	return nil
}

func (f *fakeRuntime) exit(id string, code int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.find(id)
	if c == nil || c.State != cri.StateRunning {
		return
	}
	c.State, c.ExitCode, c.FinishedAt, c.Reason = cri.StateExited, code, f.now(), "Error"
	if code == 0 {
		c.Reason = "Completed"
	}
}

func (f *fakeRuntime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	f.mu.Lock()
	c := f.find(id)
	if c == nil || c.State != cri.StateRunning {
		f.mu.Unlock()
		return nil
	}
	deaf := f.deaf[c.Name]
	f.note("stop %s %v", c.Name, grace)
	f.mu.Unlock()
	if !deaf {
		f.exit(id, 0)
		return nil
	}
	select {
	case <-time.After(grace):
		f.exit(id, killedExit)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeRuntime) RemoveContainer(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["remove"]; err != nil {
		return err
	}
	f.containers = slices.DeleteFunc(f.containers, func(c cri.ContainerStatus) bool { return c.ID == id })
	return nil
}

func (f *fakeRuntime) ListContainers(_ context.Context, labels map[string]string) ([]cri.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []cri.Container
	for i := range f.containers {
		if c := &f.containers[i]; match(c.Labels, labels) {
			out = append(out, cri.Container{ID: c.ID, SandboxID: f.sandboxOf[c.ID], Name: c.Name, State: c.State, CreatedAt: c.CreatedAt, Labels: c.Labels, Annotations: c.Annotations})
		}
	}
	return out, nil
}

func (f *fakeRuntime) ContainerStatus(_ context.Context, id string) (cri.ContainerStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(id); c != nil {
		return *c, nil
	}
	return cri.ContainerStatus{}, cri.ErrNotFound
}

func (f *fakeRuntime) ImageStatus(_ context.Context, ref string) (cri.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.images[ref] {
		return cri.Image{ID: ref, SizeBytes: 42}, nil
	}
	return cri.Image{}, cri.ErrNotFound
}

func (f *fakeRuntime) PullImage(ctx context.Context, ref string, auth *cri.Auth, _ *cri.SandboxConfig) (string, error) {
	f.mu.Lock()
	user := ""
	if auth != nil {
		user = auth.Username
	}
	f.note("pull %s", strings.TrimSpace(ref+" "+user))
	wait := f.pullTime
	f.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		f.mu.Lock()
		f.note("pull cancelled")
		f.mu.Unlock()
		return "", ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := cmp.Or(f.fail["pull"], f.fail["pull "+user]); err != nil {
		return "", err
	}
	f.images[ref] = true
	return ref, nil
}

func (f *fakeRuntime) MainPID(context.Context, string) (int, error) { return f.pid, nil }

func (f *fakeRuntime) UpdateResources(_ context.Context, id string, r cri.Resources) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("update %s shares=%d quota=%d memory=%d", f.find(id).Name, r.CPUShares, r.CPUQuota, r.MemoryLimit)
	return f.fail["update"]
}

func (f *fakeRuntime) ExecSync(context.Context, string, []string, time.Duration) (cri.ExecResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return cri.ExecResult{}, f.fail["exec"]
}

func (f *fakeRuntime) Events(context.Context, func(string)) error {
	return fmt.Errorf("events: %w", cri.ErrUnsupported)
}

var errNope = errors.New("nope")
