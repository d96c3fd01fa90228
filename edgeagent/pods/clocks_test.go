package pods

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

const year = 365 * 24 * time.Hour

// However wrong the times are that the runtime tells, a container waits as long as
// with a right clock between its restarts.
func TestCrashLoopWithWrongClock(t *testing.T) {
	var right []time.Duration
	for _, skew := range []time.Duration{0, 10 * time.Hour, -10 * time.Hour, 30 * year, -30 * year} {
		t.Run(skew.String(), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				b.objects.put(newPod("p"))
				b.rt.exitAfter["c"], b.rt.exitCode["c"] = time.Second, 1
				b.rt.skew = skew
			}, func(b *bubble) {
				pass(15 * time.Minute)
				got := b.creations(t)
				if right == nil {
					right = got
				}
				if len(got) != len(right) || len(got) < 6 {
					t.Fatalf("containers are made at %v, want about %v", got, right)
				}
				for i := 1; i < len(got); i++ {
					// That one has ended is seen at the next look, a second later at most.
					pause, want := got[i]-got[i-1], right[i]-right[i-1]
					if (pause - want).Abs() > 2*relistBusy {
						t.Errorf("pause %d is %v, with a right clock %v", i, pause, want)
					}
				}
			})
		})
	}
}

// The clock is set while a pod crashes again and again, and at each boot.
func TestClockSetWhileRunning(t *testing.T) {
	for _, jump := range []time.Duration{5 * time.Hour, -5 * time.Hour, 30 * year, -30 * year} {
		t.Run(jump.String(), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				b.objects.put(newPod("p"))
				b.rt.exitAfter["c"], b.rt.exitCode["c"] = time.Second, 1
			}, func(b *bubble) {
				pass(30 * time.Second)
				before := len(b.creations(t))
				b.rt.mu.Lock()
				b.rt.skew = jump
				b.rt.mu.Unlock()
				pass(10 * time.Minute)
				// 10 s, 20 s, 40 s, 80 s, 160 s, 300 s: four or five more in ten minutes.
				if more := len(b.creations(t)) - before; more < 3 || more > 6 {
					t.Errorf("%d restarts in ten minutes", more)
				}
			})
		})
	}
}

// A machine boots with a clock that is behind: what the runtime has from before
// is of the future, and is not the newer one for that.
func TestBootWithClockBehind(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.objects.put(newPod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].LivenessProbe = &corev1.Probe{InitialDelaySeconds: 5, PeriodSeconds: 10, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
		}))
		b.rt.skew = 30 * year
	}, func(b *bubble) {
		pass(10 * time.Second)
		b.see(t, "p", "Running c=Running+")
		b.rt.mu.Lock()
		b.rt.skew = 0
		b.rt.sandboxes[0].Ready = false
		for i := range b.rt.containers {
			c := &b.rt.containers[i]
			c.State, c.FinishedAt, c.ExitCode = cri.StateExited, b.rt.now().Add(30*year), 255
		}
		b.rt.mu.Unlock()
		pass(2 * time.Minute)
		b.see(t, "p", "Running c=Running+#1")
		order, _ := created(t, b.rt.log())
		b.rt.mu.Lock()
		defer b.rt.mu.Unlock()
		if len(b.rt.containers) != 2 || len(order) != 1 {
			t.Errorf("%d containers and pods %v:\n%v", len(b.rt.containers), order, fmt.Sprint(b.rt.calls))
		}
	})
}

// A deadline is counted by no clock that is set.
func TestDeadlineWithClockSet(t *testing.T) {
	limit := int64(100)
	inBubble(t, func(b *bubble) {
		b.objects.put(newPod("p", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &limit }))
		b.rt.skew = -30 * year
	}, func(b *bubble) {
		pass(95 * time.Second)
		b.see(t, "p", "Running c=Running+")
		pass(40 * time.Second)
		if s := b.rec.get("ns/p"); s.Reason != "DeadlineExceeded" {
			t.Errorf("status %q %q", s.Phase, s.Reason)
		}
	})
}

func TestLocalTime(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct{ wall, after, want time.Time }{
		"past":             {now.Add(-time.Hour), time.Time{}, now.Add(-time.Hour)},
		"future":           {now.Add(time.Hour), time.Time{}, now},
		"before it can be": {now.Add(-time.Hour), now.Add(-time.Second), now.Add(-time.Second)},
		"never":            {time.Time{}, now, time.Time{}},
		"1970":             {time.Unix(0, 0), now.Add(-time.Second), now.Add(-time.Second)},
	} {
		if got := localTime(tt.wall, now, tt.after); !got.Equal(tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
