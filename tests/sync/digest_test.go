package sync

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// counted counts the bytes of the cloud's end of a stream.
type counted struct {
	net.Conn
	up, down *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.up.Add(int64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.down.Add(int64(n))
	return n, err
}

// count makes l count the bytes of the streams that begin from now on.
func (l *link) count() (up, down *atomic.Int64) {
	up, down = new(atomic.Int64), new(atomic.Int64)
	serve := l.serve
	l.serve = func(ctx context.Context, node string, conn net.Conn) error {
		return serve(ctx, node, &counted{conn, up, down})
	}
	return up, down
}

// thousand makes 1,000 objects: 250 pods with a token each, and 500 ConfigMaps.
func thousand(ctx context.Context, a *api) {
	for i := range 500 {
		a.putConfigMap(ctx, fmt.Sprintf("settings-of-line-%d", i), "x")
	}
	for i := range 250 {
		pod := testPod(fmt.Sprintf("press-%d-7d4b9c6f5-x2x4z", i), fmt.Sprintf("settings-of-line-%d", 2*i), fmt.Sprintf("settings-of-line-%d", 2*i+1))
		pod.UID = "5fbe2a0c-8f13-4a37-b8e0-2c9f5b0f7d11"
		a.createPod(ctx, pod)
		if i%10 == 0 {
			wait(time.Second) // so that tokens expire at different times
		}
	}
}

// TestReconnectCostsWhatChanged is the figure of DESIGN.md: 1,000 objects that
// did not change cost less than 2 KiB and one round trip, and a change costs what
// it is.
func TestReconnectCostsWhatChanged(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, e *edge) {
		thousand(ctx, a)
		wait(time.Minute)
		if has := e.has(); len(has) != 1000 {
			t.Fatalf("edge holds %d objects", len(has))
		}
		up, down := l.count()
		for _, tt := range []struct {
			name    string
			change  func()
			maxUp   int64
			maxDown int64
			frames  map[string]int
		}{
			{"nothing", func() {}, 1000, 8, map[string]int{"synced": 1}},
			{
				"one ConfigMap", func() { a.putConfigMap(ctx, "settings-of-line-7", "changed") }, 1000 + 2600, 300,
				map[string]int{"synced": 1, "*wire.Want": 1, "upsert configmaps/default/settings-of-line-7": 1},
			},
			{
				"only a status", func() {
					a.updatePod(ctx, "press-3-7d4b9c6f5-x2x4z", func(p *corev1.Pod) { p.Status.PodIP = "10.0.0.9" })
				}, 1000, 8, map[string]int{"synced": 1},
			},
		} {
			l.cut()
			wait(time.Second)
			tt.change()
			wait(time.Second)
			up.Store(0)
			down.Store(0)
			l.counts()
			l.mend()
			wait(time.Minute)
			t.Logf("%s changed: %d bytes up, %d down", tt.name, up.Load(), down.Load())
			if up.Load() > tt.maxUp || down.Load() > tt.maxDown {
				t.Errorf("%s changed: %d bytes up, want at most %d; %d down, want at most %d", tt.name, up.Load(), tt.maxUp, down.Load(), tt.maxDown)
			}
			if got := l.counts(); !cmp.Equal(got, tt.frames) {
				t.Errorf("%s changed: cloud sent %v, want %v", tt.name, got, tt.frames)
			}
			if diff := cmp.Diff(a.want(ctx), e.has()); diff != "" {
				t.Errorf("%s changed: edge (-want +got):\n%s", tt.name, diff)
			}
		}
	})
}

// TestAnotherReplicaSendsNothing has an edge come to a replica that never saw it.
func TestAnotherReplicaSendsNothing(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, _ *edge) {
		thousand(ctx, a)
		wait(time.Minute)
		l.cut()
		wait(time.Second)
		replica, cancel := context.WithCancel(ctx)
		p, wg := publisher(replica, t, a)
		l.serve = func(_ context.Context, node string, conn net.Conn) error { return p.Serve(replica, node, conn) }
		up, down := l.count()
		l.counts()
		l.mend()
		wait(time.Minute)
		if got, want := l.counts(), map[string]int{"synced": 1}; !cmp.Equal(got, want) {
			t.Errorf("another replica sent %v, want %v", got, want)
		}
		if up.Load() > 1000 || down.Load() > 8 {
			t.Errorf("another replica cost %d bytes up and %d down", up.Load(), down.Load())
		}
		// What it believes of the tokens is true: it renews them when they are due.
		wait(50 * time.Minute)
		renewed := 0
		for name, n := range l.counts() {
			if len(name) > 14 && name[:14] == "upsert tokens/" {
				renewed += n
			}
		}
		if renewed != 250 {
			t.Errorf("%d tokens of 250 were renewed at 80 %% of their life", renewed)
		}
		cancel()
		wg.Wait()
	})
}
