package pods

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

func withPriority(p int32) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.Priority = &p }
}

// created gives when the containers of pods were made, and the order.
func created(t *testing.T, log string) (order []string, at map[string]time.Duration) {
	t.Helper()
	at = map[string]time.Duration{}
	for line := range strings.Lines(log) {
		when, what, _ := strings.Cut(strings.TrimSpace(line), " ")
		pod, ok := strings.CutPrefix(what, "sandbox ")
		if !ok {
			continue
		}
		pod, _, _ = strings.Cut(pod, "#")
		d, err := time.ParseDuration(when)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := at[pod]; !ok {
			order = append(order, pod)
			at[pod] = d
		}
	}
	return order, at
}

// After a boot pods come back by priority, however many there are and however
// long each takes.
func TestBootOrder(t *testing.T) {
	var want []string
	inBubble(t, func(b *bubble) {
		b.rt.slow = map[string]time.Duration{}
		for _, p := range []struct {
			name   string
			change func(*corev1.Pod)
		}{
			{"e", func(*corev1.Pod) {}},
			{"d", withPriority(1000)},
			{"c", func(p *corev1.Pod) { p.Spec.PriorityClassName = "system-cluster-critical" }},
			{"b", func(p *corev1.Pod) { p.Annotations = map[string]string{AnnotationSource: SourceFile} }},
			{"a", withPriority(2_100_000_000)},
		} {
			for i := range 4 {
				name := fmt.Sprintf("%s%d", p.name, i)
				want = append(want, p.name)
				b.rt.slow[name] = 200 * time.Millisecond
				b.objects.put(newPod(name, p.change))
			}
		}
	}, func(b *bubble) {
		pass(5 * time.Second)
		order, at := created(t, b.rt.log())
		for i := range order {
			order[i] = order[i][:1]
		}
		slices.Sort(want)
		if d := cmp.Diff(want, order); d != "" {
			t.Errorf("order of priority (-want +got):\n%s", d)
		}
		for pod, when := range at {
			if when > 2*time.Second {
				t.Errorf("%s came after %v", pod, when)
			}
		}
	})
}

// The order is kept when the runtime notices late that the sandboxes have died: a start
// that meets a dying one is only put off.
func TestBootOrderOverDyingSandboxes(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.rt.slow = map[string]time.Duration{"critical": time.Second}
		for _, p := range []*corev1.Pod{newPod("ordinary"), newPod("critical", withPriority(priorityNodeCritical))} {
			b.leftover(p, func(c *cri.ContainerStatus) {
				c.ID, c.State, c.ExitCode, c.Reason, c.StartedAt, c.FinishedAt = "c-"+p.Name, cri.StateExited, 137, "Error", b.rt.now().Add(-time.Minute), b.rt.now()
			})
		}
		b.rt.fail["create"] = fmt.Errorf("no running task found: %w", cri.ErrNotFound)
		time.AfterFunc(500*time.Millisecond, func() {
			b.rt.mu.Lock()
			defer b.rt.mu.Unlock()
			delete(b.rt.fail, "create")
			for i := range b.rt.sandboxes {
				b.rt.sandboxes[i].Ready = false
			}
		})
	}, func(b *bubble) {
		pass(5 * time.Second)
		order, at := created(t, b.rt.log())
		if d := cmp.Diff([]string{"critical", "ordinary"}, order); d != "" {
			t.Errorf("(-want +got):\n%s\n%v", d, at)
		}
		for _, pod := range []string{"critical", "ordinary"} {
			b.see(t, pod, "Running c=Running+#1")
		}
	})
}

// Pods that fail or hang hold up nobody beyond the hold of the boot.
func TestBootDoesNotWait(t *testing.T) {
	for name, tt := range map[string]struct {
		setUp func(b *bubble, pod string)
		most  time.Duration
	}{
		"failing":      {func(b *bubble, pod string) { b.rt.fail["sandbox "+pod] = errors.New("no") }, 0},
		"hanging":      {func(b *bubble, pod string) { b.rt.slow[pod] = time.Hour }, turnLease},
		"crashing":     {func(b *bubble, _ string) { b.rt.exitAfter["c"], b.rt.exitCode["c"] = 0, 1 }, 0},
		"image absent": {func(b *bubble, _ string) { clear(b.rt.images); b.rt.pullTime = time.Hour }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				b.rt.slow = map[string]time.Duration{}
				for i := range 2 * maxStarts() {
					pod := fmt.Sprintf("critical%d", i)
					b.objects.put(newPod(pod, withPriority(priorityNodeCritical)))
					tt.setUp(b, pod)
				}
				b.objects.put(newPod("ordinary"))
			}, func(b *bubble) {
				pass(20 * time.Second)
				_, at := created(t, b.rt.log())
				// Two rounds of leases: as many hang as may start at a time, twice.
				if when, ok := at["ordinary"]; !ok || when > 2*tt.most {
					t.Errorf("the ordinary pod came after %v (%t), at most %v", when, ok, 2*tt.most)
				}
			})
		})
	}
}

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tu := newTurns(1, 0)
		first, err := tu.take(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 4)
		wait := func(ctx context.Context, name string, priority int32) {
			go func() {
				done, err := tu.take(ctx, priority)
				if err != nil {
					got <- name + " gave up"
					return
				}
				got <- name
				done()
				done() // does nothing
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		wait(t.Context(), "low", 0)
		wait(t.Context(), "high", 9)
		wait(ctx, "canceled", 10)
		wait(t.Context(), "high too", 9)
		cancel()
		synctest.Wait()
		first()
		synctest.Wait()
		close(got)
		var order []string
		for s := range got {
			order = append(order, s)
		}
		if d := cmp.Diff([]string{"canceled gave up", "high", "high too", "low"}, order); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if tu.held != 0 {
			t.Errorf("%d turns are held", tu.held)
		}
	})
}
