package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/tools/remotecommand"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi/kubeletapitest"
)

// process is a container's own process: what it says goes to all who have joined,
// what they say is echoed.
type process struct {
	mu      sync.Mutex
	joined  map[io.Writer]struct{}
	seen    chan cri.AttachOptions
	sizes   chan cri.Size
	stopped chan struct{}
}

func newProcess() *process {
	return &process{
		joined: map[io.Writer]struct{}{}, seen: make(chan cri.AttachOptions, 10),
		sizes: make(chan cri.Size, 10), stopped: make(chan struct{}),
	}
}

func (p *process) attach(ctx context.Context, o cri.AttachOptions) error {
	p.mu.Lock()
	p.joined[o.Stdout] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.joined, o.Stdout)
	}()
	p.seen <- o
	if o.Stdin != nil {
		go func() { _, _ = io.Copy(p, o.Stdin) }()
	}
	if o.Resize != nil {
		go func() {
			for s := range o.Resize {
				p.sizes <- s
			}
		}()
	}
	select {
	case <-p.stopped:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Write is what the process says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.joined {
		_, _ = w.Write(b)
	}
	return len(b), nil
}

// waiter is a writer that waits for a text.
type waiter struct {
	mu   sync.Mutex
	text strings.Builder
	grew chan struct{}
}

func newWaiter() *waiter { return &waiter{grew: make(chan struct{}, 1)} }

func (w *waiter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(b)
	select {
	case w.grew <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (w *waiter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func (w *waiter) until(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(w.String(), text) {
		select {
		case <-w.grew:
		case <-t.Context().Done():
			t.Fatalf("%q does not come: %q", text, w.String())
		}
	}
}

// TestAttach has two callers join one process that ends while they look.
func TestAttach(t *testing.T) {
	for _, protocol := range protocols() {
		t.Run(protocol, func(t *testing.T) {
			p := newProcess()
			w := start(t, settings{runtime: kubeletapitest.Runtime{OnAttach: p.attach}})
			stdin, typist := io.Pipe()
			one, two := newWaiter(), newWaiter()
			done := make(chan error, 2)
			go func() {
				done <- w.callAt(t.Context(), protocol, "/attach/default/p/c", remotecommand.StreamOptions{Stdin: stdin, Stdout: one, Stderr: io.Discard})
			}()
			if o := <-p.seen; o.Container != "id" || o.TTY || o.Stdin == nil || o.Stderr == nil || o.Resize != nil {
				t.Errorf("got %+v", o)
			}
			go func() {
				done <- w.callAt(t.Context(), protocol, "/attach/default/p/c", remotecommand.StreamOptions{Stdout: two})
			}()
			if o := <-p.seen; o.Stdin != nil || o.Stderr != nil {
				t.Errorf("got %+v", o)
			}
			_, _ = io.WriteString(typist, "hello\n")
			one.until(t, "hello\n")
			two.until(t, "hello\n")
			close(p.stopped)
			_ = typist.Close()
			for range 2 {
				if err := <-done; err != nil {
					t.Errorf("at the process's end: %v", err)
				}
			}
			if log := w.log.String(); !strings.Contains(log, "kind=attach") || !strings.Contains(log, `ended="exit 0"`) {
				t.Errorf("the log misses it:\n%s", log)
			}
		})
	}
}

// TestAttachTerminal: whether there is a terminal, the container's spec says.
func TestAttachTerminal(t *testing.T) {
	p := newProcess()
	w := start(t, settings{runtime: kubeletapitest.Runtime{OnAttach: p.attach}})
	pod := edgePod(newPod("p", "u", "n1"), "")
	pod.Containers[0].TTY = true
	w.edgePods.Set(pod)
	q := make(sizes, 1)
	q <- remotecommand.TerminalSize{Width: 132, Height: 43}
	defer close(q)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- w.callAt(ctx, "spdy", "/attach/default/p/c", remotecommand.StreamOptions{Stdin: new(blocked(t)), Stdout: newWaiter(), Tty: true, TerminalSizeQueue: q})
	}()
	if o := <-p.seen; !o.TTY || o.Stderr != nil {
		t.Errorf("got %+v", o)
	}
	if s := <-p.sizes; s != (cri.Size{Width: 132, Height: 43}) {
		t.Errorf("got %+v", s)
	}
	cancel()
	<-done

	// One that does not know of the terminal asks for an error output of its own.
	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		done <- w.callAt(ctx, "spdy", "/attach/default/p/c", remotecommand.StreamOptions{Stdout: newWaiter(), Stderr: io.Discard})
	}()
	if o := <-p.seen; !o.TTY || o.Stderr != nil {
		t.Errorf("got %+v", o)
	}
	cancel()
	<-done
}

func TestAttachRefused(t *testing.T) {
	failing := errors.New("the runtime says no")
	w := start(t, settings{runtime: kubeletapitest.Runtime{OnAttach: func(context.Context, cri.AttachOptions) error { return failing }}})
	w.addPod(newPod("off", "u2", "n2"))
	ended := newPod("ended", "u3", "n1")
	w.addPod(ended)
	pod := edgePod(ended, "")
	pod.Containers[0].State = kubeletapi.Terminated
	w.edgePods.Set(pod)
	for _, tt := range []struct{ path, want string }{
		{"/attach/default/off/c", "edge n2 is offline since 2026-01-02T03:04:05Z"},
		{"/attach/default/none/c", `pod "none" not found`},
		{"/attach/default/p/x", "container x is not valid for pod p"},
		{"/attach/default/ended/c", "error attaching to container: container c not found in pod ended_default: it is not running"},
		{"/attach/default/p/c", "error attaching to container: the runtime says no"},
	} {
		for _, protocol := range protocols()[:2] {
			if protocol != "spdy" && !strings.Contains(tt.want, "error attaching") {
				continue
			}
			err := w.callAt(t.Context(), protocol, tt.path, remotecommand.StreamOptions{Stdout: &bytes.Buffer{}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got %v, want %s", tt.path, err, tt.want)
			}
		}
	}
}

// TestAttachCallersGone: the process must not be bothered by those who have left.
func TestAttachCallersGone(t *testing.T) {
	p := newProcess()
	w := start(t, settings{runtime: kubeletapitest.Runtime{OnAttach: p.attach}})
	ctx, cancel := context.WithCancel(t.Context())
	const callers = 8
	done := make(chan error, callers)
	for i := range callers {
		go func() {
			done <- w.callAt(ctx, protocols()[i%3], "/attach/default/p/c", remotecommand.StreamOptions{Stdin: new(blocked(t)), Stdout: newWaiter()})
		}()
	}
	for range callers {
		<-p.seen
	}
	cancel()
	for range callers {
		<-done
	}
	eventually(t, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if n := len(p.joined); n > 0 {
			return fmt.Errorf("%d of %d are joined still", n, callers)
		}
		return nil
	})
}
