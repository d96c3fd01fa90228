package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

// echoes says numbered lines to something that says them again, and notices one
// that is lost, doubled or out of order.
type echoes struct {
	name      string
	w         io.Writer
	r         io.Reader
	said, got atomic.Int64
	failed    atomic.Pointer[error]
	wg        sync.WaitGroup
}

func (x *echoes) fail(err error) { x.failed.CompareAndSwap(nil, &err) }

func (x *echoes) start(ctx context.Context) {
	x.wg.Go(func() {
		tick := time.NewTicker(typingPace)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := fmt.Fprintf(x.w, "line %d\n", x.said.Load()+1); err != nil {
				x.fail(fmt.Errorf("say line %d: %w", x.said.Load()+1, err))
				return
			}
			x.said.Add(1)
		}
	})
	go func() {
		for lines := bufio.NewScanner(x.r); lines.Scan(); {
			if want := fmt.Sprintf("line %d", x.got.Load()+1); lines.Text() != want {
				x.fail(fmt.Errorf("heard %q, want %q", lines.Text(), want))
				return
			}
			x.got.Add(1)
		}
		x.fail(fmt.Errorf("it ended after %d lines of %d", x.got.Load(), x.said.Load()))
	}()
}

// goOn waits until n more lines have come back.
func (x *echoes) goOn(t *testing.T, n int64) {
	t.Helper()
	until := x.got.Load() + n
	eventually(t, x.name, func() error {
		if err := x.failed.Load(); err != nil {
			return lab.Final(fmt.Errorf("%s: %w", x.name, *err))
		}
		if got := x.got.Load(); got < until {
			return fmt.Errorf("%s is at line %d of %d", x.name, got, x.said.Load())
		}
		return nil
	})
}

// TestOutliveAttachAndForward breaks the link in the middle of kubectl attach and
// of a connection through kubectl port-forward.
func TestOutliveAttachAndForward(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	p := newPod(ns, "echo", e, stdinShell("attached", "exec cat", false), shell("server", "exec nc -ll -p 8080 -e cat"))
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	runPod(t, p)
	must(t, e.SetLink(t.Context(), "profile", "B"))
	defer restoreLink(t, e)

	clients(t, func(t *testing.T, c client) {
		t.Helper()
		if c.name == "old" {
			t.Skip("SPDY is SPDY")
		}
		attach := c.command(t.Context(), "-n", ns, "attach", "-i", "echo", "-c", "attached")
		var errs record
		attach.Stderr = &errs
		in, err := attach.StdinPipe()
		must(t, err)
		out, err := attach.StdoutPipe()
		must(t, err)
		must(t, attach.Start())
		f := forward(t, c, ns, "echo", 8080)
		conn, err := net.Dial("tcp", f.addr)
		must(t, err)
		defer func() { _ = conn.Close() }()

		ctx, cancel := context.WithCancel(t.Context())
		all := []*echoes{{name: "attach", w: in, r: out}, {name: "port-forward", w: conn, r: conn}}
		for _, x := range all {
			x.start(ctx)
		}
		for _, tt := range []struct {
			name  string
			fault fault
		}{{"before", nil}, {"address", readdress}, {"outage-10s", outage(10 * time.Second)}, {"udp-blocked", blockUDP}} {
			if tt.fault != nil {
				tt.fault(t, e, &talks{})
			}
			begin := time.Now()
			for _, x := range all {
				x.goOn(t, 20)
			}
			t.Logf("%s: 20 lines of each in %v", tt.name, time.Since(begin).Round(time.Millisecond))
		}
		cancel()
		for _, x := range all {
			x.wg.Wait()
			x.goOn(t, x.said.Load()-x.got.Load())
		}
		_ = in.Close()
		if err := attach.Wait(); err != nil {
			t.Errorf("attach ends with %v: %q", err, errs.text())
		}
		if got, err := f.ask([]byte("another connection\n")); string(got) != "another connection\n" || err != nil {
			t.Errorf("after all: got %q, %v; %s", got, err, f.errs.text())
		}
	})
}
