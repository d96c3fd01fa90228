package pods

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

// bubble runs a manager on a fake runtime in virtual time.
type bubble struct {
	rt      *fakeRuntime
	objects *memObjects
	layer   Objects // over objects; nil means these
	rec     *recorder
	steps   Steps
	change  func(*Config)   // of what the manager gets; nil means nothing
	mounter volumes.Mounter // nil means the kernel's
	m       *Manager
}

func inBubble(t *testing.T, setUp func(*bubble), body func(*bubble)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{rt: newFakeRuntime(), objects: newObjects(), rec: newRecorder()}
		setUp(b)
		b.run(t, dir, func() { body(b) })
	})
}

func (b *bubble) run(t *testing.T, dir string, body func()) {
	t.Helper()
	objects := b.layer
	if objects == nil {
		objects = b.objects
	}
	cfg := Config{
		Objects: objects, Reporter: b.rec, Static: b.rec, Events: b.rec, CRI: b.rt, StateDir: dir, LogsDir: dir + "/logs",
		Cgroups: noCgroups{}, NodeName: "edge-1", ResolvConf: "/dev/null", Steps: b.steps, Mounter: b.mounter,
	}
	if b.change != nil {
		b.change(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.m = m
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = m.Run(ctx)
	}()
	synctest.Wait()
	body()
	cancel()
	<-ended
}

func (b *bubble) see(t *testing.T, name, want string) {
	t.Helper()
	synctest.Wait()
	s := b.rec.get("ns/" + name)
	if got := describe(&s); got != want {
		t.Errorf("%s after %v: %q, want %q", name, time.Since(b.rt.start), got, want)
	}
}

// pass lets virtual time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// creations gives when containers were made, since the beginning.
func (b *bubble) creations(t *testing.T) []time.Duration {
	t.Helper()
	var at []time.Duration
	for line := range strings.Lines(b.rt.log()) {
		when, what, _ := strings.Cut(line, " ")
		if strings.HasPrefix(what, "create") {
			d, err := time.ParseDuration(when)
			if err != nil {
				t.Fatal(err)
			}
			at = append(at, d)
		}
	}
	return at
}

func TestCrashLoopTimes(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.objects.put(newPod("p"))
		b.rt.exitAfter["c"], b.rt.exitCode["c"] = 0, 1
	}, func(b *bubble) {
		pass(15 * time.Minute)
		at := b.creations(t)
		var pauses []time.Duration
		for i := 1; i < len(at); i++ {
			pauses = append(pauses, at[i]-at[i-1])
		}
		// The first restart is at once; then 10 s, doubling up to 5 minutes.
		want := []time.Duration{0, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 300 * time.Second}
		if len(pauses) < len(want) {
			t.Fatalf("restarts %v, want %v", pauses, want)
		}
		for i := range want {
			// The first exit is seen by the next look at the runtime.
			if d := pauses[i] - want[i]; d < 0 || d > relistBusy {
				t.Errorf("pause %d is %v, want %v", i, pauses[i], want[i])
			}
		}
		if !b.rec.hasEvent("Warning BackOff: Back-off restarting failed container c") {
			t.Error("no BackOff event")
		}
		b.rt.mu.Lock()
		defer b.rt.mu.Unlock()
		if len(b.rt.containers) > 2 { // what runs, and the one before
			t.Errorf("%d instances kept", len(b.rt.containers))
		}
	})
}

func TestPullBackOff(t *testing.T) {
	inBubble(t, func(b *bubble) {
		clear(b.rt.images)
		b.rt.fail["pull"] = errNope
		b.objects.put(newPod("p"))
	}, func(b *bubble) {
		pass(0)
		b.see(t, "p", "Pending c=ErrImagePull")
		pass(9 * time.Second)
		b.see(t, "p", "Pending c=ImagePullBackOff")
		pass(time.Second) // the second pull failed
		b.see(t, "p", "Pending c=ErrImagePull")
		pass(6 * time.Second)
		b.rt.mu.Lock()
		delete(b.rt.fail, "pull")
		b.rt.mu.Unlock()
		pass(14 * time.Second) // 20 s after the second failure
		b.see(t, "p", "Running c=Running+")
		pulls := strings.Count(b.rt.log(), "pull ")
		if pulls != 3 {
			t.Errorf("%d pulls, want 3:\n%s", pulls, b.rt.log())
		}
	})
}

func TestDeletionCancelsPull(t *testing.T) {
	inBubble(t, func(b *bubble) {
		clear(b.rt.images)
		b.rt.pullTime = time.Hour
		b.objects.put(newPod("p"))
	}, func(b *bubble) {
		pass(time.Minute)
		b.see(t, "p", "Pending c=ContainerCreating")
		pod, _ := b.objects.Pod("pods/ns/p")
		b.objects.put(deleted(pod, 30, time.Now()))
		b.m.Wake("pods/ns/p")
		pass(time.Second)
		if !strings.Contains(b.rt.log(), "pull cancelled") || !b.rec.isGone("uid-p") {
			t.Errorf("not gone a second later:\n%s", b.rt.log())
		}
		b.objects.remove("pods/ns/p")
		b.m.Wake("pods/ns/p")
		synctest.Wait()
		if len(b.m.Refs()) != 0 {
			t.Error("the worker lives on")
		}
	})
}

func TestGracePeriodShortened(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.rt.deaf["c"] = true
		b.objects.put(newPod("p"))
	}, func(b *bubble) {
		pass(time.Second)
		b.see(t, "p", "Running c=Running+")
		pod, _ := b.objects.Pod("pods/ns/p")
		b.objects.put(deleted(pod, 100, time.Now()))
		b.m.Wake("pods/ns/p")
		pass(10 * time.Second)
		b.objects.put(deleted(pod, 0, time.Now()))
		b.m.Wake("pods/ns/p")
		pass(3 * time.Second)
		if !b.rec.isGone("uid-p") {
			t.Errorf("not gone 3 s after a forced deletion:\n%s", b.rt.log())
		}
		b.see(t, "p", "Failed c=Error(137)")
	})
}

func TestStoreOutageStopsNothing(t *testing.T) {
	inBubble(t, func(b *bubble) { b.objects.put(newPod("p")) }, func(b *bubble) {
		pass(time.Second)
		b.objects.mu.Lock()
		b.objects.broken = errNope
		b.objects.mu.Unlock()
		b.m.Wake("pods/ns/p")
		pass(time.Minute)
		b.see(t, "p", "Running c=Running+")
		if strings.Contains(b.rt.log(), "stop") {
			t.Errorf("stopped something:\n%s", b.rt.log())
		}
	})
}

func TestAdoptionAndOrphans(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{rt: newFakeRuntime(), objects: newObjects(newPod("stay"), newPod("go")), rec: newRecorder()}
		b.run(t, dir, func() { pass(time.Second) })
		before := b.rt.log()
		// A new agent, while the store can not be read.
		b.objects.remove("pods/ns/go")
		b.objects.broken = errNope
		b.rec = newRecorder()
		b.run(t, dir, func() {
			pass(time.Minute)
			if b.rt.log() != before {
				t.Errorf("acted before the store was read:\n%s", b.rt.log())
			}
			b.objects.mu.Lock()
			b.objects.broken = nil
			b.objects.mu.Unlock()
			pass(5 * time.Second)
			b.see(t, "stay", "Running c=Running+")
			after := strings.TrimPrefix(b.rt.log(), before)
			if strings.Contains(after, "create") || strings.Count(after, "stop c") != 1 {
				t.Errorf("calls after the restart:\n%s", after)
			}
			if _, ok := b.m.Lookup("ns", "go", ""); ok {
				t.Error("the orphan is still there")
			}
		})
	})
}

func TestFinishedPodNeedsNothing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		pod := newPod("p", policy(corev1.RestartPolicyNever), func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}},
			}}}
		})
		b := &bubble{rt: newFakeRuntime(), objects: newObjects(pod), rec: newRecorder()}
		b.objects.configMaps["ns/cm"] = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cm"}}
		b.rt.exitAfter["c"] = time.Second
		b.run(t, dir, func() {
			pass(5 * time.Second)
			b.see(t, "p", "Succeeded c=Completed(0)")
			if b.rt.sandboxes[0].Ready {
				t.Error("a finished pod keeps its sandbox")
			}
		})
		// The cloud takes back what only a finished pod has named.
		delete(b.objects.configMaps, "ns/cm")
		before := b.rt.log()
		b.rec = newRecorder()
		b.run(t, dir, func() {
			pass(time.Minute)
			b.see(t, "p", "Succeeded c=Completed(0)")
			if b.rt.log() != before || len(b.rec.events) != 0 {
				t.Errorf("a new agent did\n%s\nand said %q", strings.TrimPrefix(b.rt.log(), before), b.rec.events)
			}
		})
	})
}

func TestStatusOutlivesTheAgent(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ready := newPod("ready", func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
			p.Spec.Containers[0].StartupProbe = p.Spec.Containers[0].ReadinessProbe
		})
		done := newPod("done", policy(corev1.RestartPolicyNever), func(p *corev1.Pod) { p.Spec.Containers[0].Name = "job" })
		b := &bubble{rt: newFakeRuntime(), objects: newObjects(ready, done), rec: newRecorder()}
		b.rt.exitAfter["job"] = time.Second
		b.run(t, dir, func() {
			pass(30 * time.Second)
			b.see(t, "ready", "Running c=Running+")
			b.see(t, "done", "Succeeded job=Completed(0)")
		})
		want := b.rec.status
		if c := findCondition(want["ns/done"].Conditions, corev1.PodReadyToStartContainers); c.Status != corev1.ConditionFalse {
			t.Errorf("a finished pod keeps its sandbox: %+v", c)
		}
		// The runtime forgets the pod that has finished.
		b.rt.containers = slices.DeleteFunc(b.rt.containers, func(c cri.ContainerStatus) bool { return c.Name == "job" })
		before := b.rt.log()
		<-time.After(time.Hour)
		b.rec = newRecorder()
		b.run(t, dir, func() {
			pass(30 * time.Second)
			if diff := cmp.Diff(want, b.rec.status); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if h := b.rec.history["ns/ready"]; len(h) != 1 {
				t.Errorf("went through %q", h)
			}
			if b.rt.log() != before {
				t.Errorf("a new agent did\n%s", strings.TrimPrefix(b.rt.log(), before))
			}
		})
	})
}

func TestConfigErrorRetriedAtOnce(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.objects.put(newPod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}}}
		}))
	}, func(b *bubble) {
		pass(0)
		b.see(t, "p", "Pending c=CreateContainerConfigError")
		s := b.rec.get("ns/p")
		if diff := cmp.Diff(`configmap "cm" not found`, s.ContainerStatuses[0].State.Waiting.Message); diff != "" {
			t.Error(diff)
		}
		b.objects.mu.Lock()
		b.objects.configMaps["ns/cm"] = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cm"}, Data: map[string]string{"A": "b"}}
		b.objects.mu.Unlock()
		b.m.Wake("configmaps/ns/other")
		b.see(t, "p", "Pending c=CreateContainerConfigError")
		b.m.Wake("configmaps/ns/cm")
		b.see(t, "p", "Running c=Running+")
	})
}

func TestSandboxFailureBacksOff(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.rt.fail["sandbox"] = errNope
		b.objects.put(newPod("p"))
	}, func(b *bubble) {
		pass(20 * time.Second)
		// At 0, 1, 3, 7 and 15 seconds.
		if n := strings.Count(b.rt.log(), "sandbox p#0"); n != 5 {
			t.Errorf("%d attempts:\n%s", n, b.rt.log())
		}
		if !b.rec.hasEvent("FailedCreatePodSandBox") {
			t.Error("no event")
		}
	})
}

func TestUnsupportedVolumeNeverRuns(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.objects.put(newPod("p", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}}}
		}))
	}, func(b *bubble) {
		pass(time.Minute)
		b.see(t, "p", "Pending c=ContainerCreating")
		if b.rt.log() != "" || !b.rec.hasEvent(`Warning FailedMount: volume "v": nfs volumes are not supported`) {
			t.Errorf("calls %q, events %v", b.rt.log(), b.rec.events)
		}
	})
}

func TestRelistSlowsDown(t *testing.T) {
	inBubble(t, func(b *bubble) { b.objects.put(newPod("p")) }, func(b *bubble) {
		pass(time.Minute)
		b.rt.mu.Lock()
		before := b.rt.lists
		b.rt.mu.Unlock()
		pass(time.Minute)
		b.rt.mu.Lock()
		defer b.rt.mu.Unlock()
		if n := b.rt.lists - before; n != int(time.Minute/relistIdle) {
			t.Errorf("%d lists in an idle minute, want %d", n, time.Minute/relistIdle)
		}
		if len(b.rec.history["ns/p"]) > 3 {
			t.Errorf("statuses %v", b.rec.history)
		}
	})
}
