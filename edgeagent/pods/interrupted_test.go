package pods

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// leftover is a container that a former agent has made for pod p.
func (b *bubble) leftover(p *corev1.Pod, change func(*cri.ContainerStatus)) {
	labels := map[string]string{labelPodUID: string(p.UID), labelPodName: p.Name, labelPodNamespace: p.Namespace, labelContainerName: "c"}
	c := cri.ContainerStatus{ID: "left", Name: "c", State: cri.StateCreated, CreatedAt: b.rt.now(), Labels: labels}
	change(&c)
	sandbox := "sb-" + p.Name
	b.rt.sandboxes = append(b.rt.sandboxes, cri.Sandbox{ID: sandbox, Ready: true, Labels: labels, CreatedAt: b.rt.now()})
	b.rt.containers = append(b.rt.containers, c)
	b.rt.sandboxOf[c.ID] = sandbox
	b.objects.put(p)
}

// A runtime gives up a start when the agent that has asked for it dies. That is no
// end of a container: it never ran, and not even a pod that never restarts has failed.
func TestStartInterrupted(t *testing.T) {
	for name, message := range map[string]string{
		"before the shim": "failed to create containerd task: failed to start shim: start failed: unix:///run/containerd/s/3c99: context canceled",
		"the shim killed": "failed to create containerd task: failed to start shim: start failed: : signal: killed: unknown",
		"in the shim":     `failed to start containerd task "7cf3": context canceled: unknown`,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				b.leftover(newPod("p", policy(corev1.RestartPolicyNever)), func(c *cri.ContainerStatus) {
					c.State, c.ExitCode, c.Reason, c.Message, c.FinishedAt = cri.StateExited, 128, "StartError", message, b.rt.now()
				})
			}, func(b *bubble) {
				pass(time.Second)
				b.see(t, "p", "Running c=Running+")
				if n := len(b.rt.containers); n != 1 {
					t.Errorf("%d containers", n)
				}
			})
		})
	}
}

// An end that a former agent has told stays one.
func TestStartRefused(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{rt: newFakeRuntime(), objects: newObjects(), rec: newRecorder()}
		b.objects.put(newPod("p", policy(corev1.RestartPolicyNever)))
		b.rt.fail["start"] = errNope
		b.run(t, dir, func() { pass(time.Second) })
		delete(b.rt.fail, "start")
		b.rec = newRecorder()
		b.run(t, dir, func() {
			pass(time.Second)
			b.see(t, "p", "Failed c=StartError(128)")
		})
	})
}

// A runtime that dies while it starts a container does not know later what became of
// it, or never told that it has made it.
func TestRuntimeDiesAtStart(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.objects.put(newPod("p", policy(corev1.RestartPolicyNever)))
		b.rt.fail["start"] = fmt.Errorf("start container: %w", &cri.UnavailableError{Err: errNope})
		time.AfterFunc(time.Second, func() {
			b.rt.mu.Lock()
			defer b.rt.mu.Unlock()
			delete(b.rt.fail, "start")
		})
	}, func(b *bubble) {
		pass(30 * time.Second)
		b.see(t, "p", "Running c=Running+")
		if n := len(b.rt.containers); n != 1 {
			t.Errorf("%d containers", n)
		}
	})
}

// A runtime that went away in the middle of things, again and again, says nothing of the
// pod: what failed so is tried again soon after the last time.
func TestRuntimeFlaps(t *testing.T) {
	const flapping = 33 * time.Second
	for call, want := range map[string]string{"sandbox": "Running c=Running+", "create": "Running c=Running+", "remove": ""} {
		t.Run(call, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				p := newPod("p", policy(corev1.RestartPolicyNever))
				if call == "remove" {
					b.leftover(p, func(c *cri.ContainerStatus) {
						c.State, c.Reason, c.StartedAt, c.FinishedAt = cri.StateExited, "Completed", b.rt.now(), b.rt.now()
					})
					b.objects.remove(keyOf(p))
				} else {
					b.objects.put(p)
				}
				b.rt.fail[call] = fmt.Errorf("%s: %w", call, &cri.UnavailableError{Err: errNope})
				time.AfterFunc(flapping, func() {
					b.rt.mu.Lock()
					defer b.rt.mu.Unlock()
					delete(b.rt.fail, call)
				})
			}, func(b *bubble) {
				pass(flapping + 2*time.Second)
				if want != "" {
					b.see(t, "p", want)
				} else if len(b.rt.containers) != 0 {
					t.Errorf("containers are left: %+v", b.rt.containers)
				}
			})
		})
	}
}

// The runtime may still be at the start that a former agent has asked for, and lets
// nobody remove the container meanwhile.
func TestStartStillUnderWay(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.leftover(newPod("p"), func(*cri.ContainerStatus) {})
		b.rt.fail["remove"] = errNope
		time.AfterFunc(3*time.Second, func() {
			if err := b.rt.StartContainer(t.Context(), "left"); err != nil {
				t.Error(err)
			}
		})
	}, func(b *bubble) {
		pass(4 * time.Second)
		b.see(t, "p", "Running c=Running+")
		if len(b.rec.events) != 0 {
			t.Errorf("events %q", b.rec.events)
		}
		if c := b.rt.find("left"); c == nil || len(b.rt.containers) != 1 {
			t.Errorf("containers %+v", b.rt.containers)
		}
	})
}

// What fails because the sandbox is just dying, as at a boot, is tried again as soon as
// there is another sandbox: the pause after a failure is for one that would come again.
// It is no restart either, and no end of the container.
func TestSandboxDiesUnderAStart(t *testing.T) {
	dying := func(b *bubble, call string) {
		b.rt.fail[call] = errNope
		// The runtime tells a little later that the sandbox is dead.
		time.AfterFunc(500*time.Millisecond, func() {
			b.rt.mu.Lock()
			delete(b.rt.fail, call)
			b.rt.sandboxes[0].Ready = false
			b.rt.mu.Unlock()
		})
	}
	for _, call := range []string{"create", "start"} {
		t.Run("first "+call, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				b.objects.put(newPod("p"))
				dying(b, call)
			}, func(b *bubble) {
				pass(3 * time.Second)
				b.see(t, "p", "Running c=Running+")
			})
		})
		t.Run("restart, "+call, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				b.leftover(newPod("p"), func(c *cri.ContainerStatus) {
					c.State, c.ExitCode, c.Reason, c.StartedAt, c.FinishedAt = cri.StateExited, 137, "Error", b.rt.now().Add(-time.Minute), b.rt.now()
				})
				dying(b, call)
			}, func(b *bubble) {
				pass(3 * time.Second)
				b.see(t, "p", "Running c=Running+#1")
				if last := b.rec.get("ns/p").ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
					t.Errorf("it ended before by %+v", last)
				}
			})
		})
	}
	// It is the end of a pod that never restarts, and the sandbox goes for that.
	t.Run("a pod that has failed", func(t *testing.T) {
		inBubble(t, func(b *bubble) {
			b.objects.put(newPod("p", policy(corev1.RestartPolicyNever)))
			dying(b, "start")
		}, func(b *bubble) {
			pass(time.Minute)
			b.see(t, "p", "Failed c=StartError(128)")
		})
	})
}
