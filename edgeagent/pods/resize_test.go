package pods

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// sized gives the container requests and limits of CPU and memory, where not empty.
func sized(cpu, cpuLimit, memory, memoryLimit string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
		for _, f := range []struct {
			list corev1.ResourceList
			name corev1.ResourceName
			q    string
		}{{r.Requests, "cpu", cpu}, {r.Limits, "cpu", cpuLimit}, {r.Requests, "memory", memory}, {r.Limits, "memory", memoryLimit}} {
			if f.q != "" {
				f.list[f.name] = resource.MustParse(f.q)
			}
		}
		p.Spec.Containers[0].Resources = r
	}
}

func generation(n int64) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Generation = n } }

func restartsFor(name corev1.ResourceName) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: name, RestartPolicy: corev1.RestartContainer}}
	}
}

func (b *bubble) update(p *corev1.Pod) {
	b.objects.put(p)
	b.m.Wake(keyOf(p))
	synctest.Wait()
}

// updates are the changes that the runtime was asked for.
func (b *bubble) updates() (out []string) {
	for line := range strings.Lines(b.rt.log()) {
		if _, what, ok := strings.Cut(strings.TrimSpace(line), " update "); ok {
			out = append(out, what)
		}
	}
	return out
}

func TestResize(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.change = offers
		b.objects.put(newPod("p", sized("100m", "200m", "64Mi", "128Mi")))
	}, func(b *bubble) {
		pass(time.Second)
		s := b.rec.get("ns/p").ContainerStatuses[0]
		if s.Resources == nil || s.Resources.Limits.Memory().String() != "128Mi" || s.AllocatedResources.Cpu().String() != "100m" {
			t.Errorf("resources %v of %v", s.Resources, s.AllocatedResources)
		}
		b.update(newPod("p", sized("300m", "400m", "64Mi", "256Mi"), generation(2)))
		pass(time.Second)
		want := "c shares=102 quota=20000 memory=268435456|c shares=307 quota=40000 memory=268435456"
		if got := strings.Join(b.updates(), "|"); got != want {
			t.Errorf("updates\n%s, want\n%s", got, want)
		}
		status := b.rec.get("ns/p")
		s = status.ContainerStatuses[0]
		if s.RestartCount != 0 || s.Resources.Limits.Memory().String() != "256Mi" || s.AllocatedResources.Cpu().String() != "300m" {
			t.Errorf("%d restarts, resources %v of %v", s.RestartCount, s.Resources, s.AllocatedResources)
		}
		if status.ObservedGeneration != 2 || findCondition(status.Conditions, corev1.PodResizeInProgress) != nil {
			t.Errorf("generation %d, %+v", status.ObservedGeneration, status.Conditions)
		}
		for _, e := range []string{
			`Normal ResizeStarted: Pod resize started: {"containers":[{"name":"c","resources":{"limits":{"cpu":"400m","memory":"256Mi"},"requests":{"cpu":"300m","memory":"64Mi"}}}],"generation":2}`,
			`Normal ResizeCompleted: Pod resize completed: {"containers"`,
		} {
			if !b.rec.hasEvent(e) {
				t.Errorf("no event %s in %v", e, b.rec.events)
			}
		}
		pass(time.Hour)
		if len(b.updates()) != 2 {
			t.Errorf("it is done again and again: %v", b.updates())
		}
	})
}

func TestResizeRestartsContainer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.objects.put(newPod("p", policy(corev1.RestartPolicyOnFailure), restartsFor("memory"), sized("", "", "64Mi", "128Mi")))
	}, func(b *bubble) {
		pass(time.Second)
		b.update(newPod("p", policy(corev1.RestartPolicyOnFailure), restartsFor("memory"), sized("", "", "64Mi", "256Mi"), generation(2)))
		pass(5 * time.Second)
		b.see(t, "p", "Running c=Running+#1")
		if len(b.updates()) != 0 || !b.rec.hasEvent("Normal Killing: Container c resize requires restart") {
			t.Errorf("updates %v, events %v", b.updates(), b.rec.events)
		}
		status := b.rec.get("ns/p")
		if findCondition(status.Conditions, corev1.PodResizeInProgress) != nil || status.ContainerStatuses[0].Resources.Limits.Memory().String() != "256Mi" {
			t.Errorf("%+v", status)
		}
		// What needs no restart by its policy is done in place.
		b.update(newPod("p", policy(corev1.RestartPolicyOnFailure), restartsFor("memory"), sized("", "500m", "64Mi", "256Mi"), generation(3)))
		pass(5 * time.Second)
		b.see(t, "p", "Running c=Running+#1")
		if got := strings.Join(b.updates(), "|"); got != "c shares=512 quota=50000 memory=268435456" {
			t.Errorf("updates %s", got)
		}
	})
}

func TestResizeDeferred(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.change = offers
		b.objects.put(newPod("p", sized("100m", "", "", "")))
		b.objects.put(newPod("other", sized("800m", "", "", "")))
	}, func(b *bubble) {
		pass(time.Second)
		b.update(newPod("p", sized("500m", "", "", ""), generation(2)))
		pass(time.Second)
		const text = "Node didn't have enough resource: cpu, requested: 500, used: 800, capacity: 1000"
		status := b.rec.get("ns/p")
		c := findCondition(status.Conditions, corev1.PodResizePending)
		if c == nil || c.Status != corev1.ConditionTrue || c.Reason != "Deferred" || c.Message != text || c.ObservedGeneration != 2 {
			t.Errorf("pending is %+v", c)
		}
		if got := status.ContainerStatuses[0].AllocatedResources.Cpu().String(); got != "100m" {
			t.Errorf("allocated %s", got)
		}
		if !b.rec.hasEvent(`Warning ResizeDeferred: Pod resize Deferred: {"containers"`) {
			t.Errorf("events %v", b.rec.events)
		}
		b.objects.remove("pods/ns/other")
		b.m.Wake("pods/ns/other")
		pass(40 * time.Second)
		if got := strings.Join(b.updates(), "|"); got != "c shares=512 quota=-1 memory=0" {
			t.Errorf("updates %s", got)
		}
		if status := b.rec.get("ns/p"); findCondition(status.Conditions, corev1.PodResizePending) != nil {
			t.Errorf("still %+v", status.Conditions)
		}
	})
}

// A container that an older agent has made, which did not write down with what, is
// resized too when its turn comes.
func TestResizeDeferredUnsized(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{rt: newFakeRuntime(), objects: newObjects(newPod("p", sized("100m", "", "", "")), newPod("other", sized("800m", "", "", ""))), rec: newRecorder()}
		b.change = offers
		b.run(t, dir, func() { pass(time.Second) })
		for i := range b.rt.containers {
			delete(b.rt.containers[i].Annotations, annotationSize)
		}
		b.run(t, dir, func() {
			pass(time.Second)
			b.update(newPod("p", sized("500m", "", "", ""), generation(2)))
			pass(time.Minute)
			b.objects.remove("pods/ns/other")
			b.m.Wake("pods/ns/other")
			pass(40 * time.Second)
		})
		if got := strings.Join(b.updates(), "|"); got != "c shares=512 quota=-1 memory=0" {
			t.Errorf("updates %q", got)
		}
	})
}

// A limit that is taken away is taken off the pod's group, too.
func TestResizeUnlimits(t *testing.T) {
	l := &limited{at: map[string]cgroups.Limits{}}
	see := func(t *testing.T, want cgroups.Limits) {
		t.Helper()
		if d := cmp.Diff(want, l.at["/kubepods/burstable/poduid-p"]); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	inBubble(t, func(b *bubble) {
		b.change = func(c *Config) { c.Cgroups = l }
		b.objects.put(newPod("p", sized("100m", "200m", "64Mi", "128Mi")))
	}, func(b *bubble) {
		pass(time.Second)
		see(t, cgroups.Limits{CPUShares: 102, CPUQuota: 20000, CPUPeriod: 100000, MemoryLimit: 128 << 20})
		b.update(newPod("p", sized("100m", "", "64Mi", "128Mi"), generation(2)))
		pass(5 * time.Second)
		see(t, cgroups.Limits{CPUShares: 102, CPUQuota: cgroups.Unbounded, CPUPeriod: 100000, MemoryLimit: 128 << 20})
		b.update(newPod("p", sized("100m", "", "64Mi", ""), generation(3)))
		pass(5 * time.Second)
		see(t, cgroups.Limits{CPUShares: 102, CPUQuota: cgroups.Unbounded, CPUPeriod: 100000, MemoryLimit: cgroups.Unbounded})
		want := []string{"c shares=102 quota=-1 memory=134217728", "c shares=102 quota=-1 memory=-1"}
		if d := cmp.Diff(want, b.updates()); d != "" {
			t.Errorf("container (-want +got):\n%s", d)
		}
	})
}

// What was changed of containers that are gone is forgotten.
func TestResizeForgetsContainers(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.objects.put(newPod("p", restartsFor("memory"), sized("", "100m", "64Mi", "128Mi")))
	}, func(b *bubble) {
		pass(time.Second)
		last := "128Mi"
		for i := range int64(6) {
			cpu, memory := strconv.FormatInt(200+i, 10)+"m", strconv.FormatInt(200+i, 10)+"Mi"
			b.update(newPod("p", restartsFor("memory"), sized("", cpu, "64Mi", last), generation(2*i+2))) // in place
			pass(5 * time.Second)
			b.update(newPod("p", restartsFor("memory"), sized("", cpu, "64Mi", memory), generation(2*i+3)))
			pass(time.Hour)
			last = memory
		}
		b.see(t, "p", "Running c=Running+#6")
		if a := b.m.env.savedAllocation("uid-p"); a == nil || len(a.Changed) > 2 {
			t.Errorf("allocation %+v", a)
		}
	})
}

// A resize that is taken back is none.
func TestResizeReverted(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.change = offers
		b.objects.put(newPod("p", sized("100m", "", "", "")))
	}, func(b *bubble) {
		pass(time.Second)
		b.update(newPod("p", sized("5", "", "", ""), generation(2)))
		b.update(newPod("p", sized("100m", "", "", ""), generation(3)))
		pass(time.Second)
		if status := b.rec.get("ns/p"); findCondition(status.Conditions, corev1.PodResizePending) != nil || len(b.updates()) > 0 {
			t.Errorf("%+v, %v", status.Conditions, b.updates())
		}
	})
}

func TestResizeFails(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.rt.fail["update"] = errNope
		b.objects.put(newPod("p", sized("100m", "", "", "")))
	}, func(b *bubble) {
		pass(time.Second)
		b.update(newPod("p", sized("500m", "", "", ""), generation(2)))
		pass(time.Second)
		status := b.rec.get("ns/p")
		c := findCondition(status.Conditions, corev1.PodResizeInProgress)
		if c == nil || c.Reason != "Error" || !strings.Contains(c.Message, "nope") || c.ObservedGeneration != 2 {
			t.Errorf("progress is %+v", c)
		}
		if s := status.ContainerStatuses[0]; s.Resources.Requests.Cpu().String() != "100m" || s.AllocatedResources.Cpu().String() != "500m" {
			t.Errorf("resources %v, allocated %v", s.Resources, s.AllocatedResources)
		}
		b.rt.mu.Lock()
		delete(b.rt.fail, "update")
		b.rt.mu.Unlock()
		pass(15 * time.Second)
		if status := b.rec.get("ns/p"); findCondition(status.Conditions, corev1.PodResizeInProgress) != nil {
			t.Errorf("still %+v", status.Conditions)
		}
	})
}

// The next agent goes on with a resize, and knows what was done.
func TestResizeOutlivesTheAgent(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{rt: newFakeRuntime(), objects: newObjects(newPod("p", sized("100m", "", "64Mi", ""))), rec: newRecorder()}
		b.run(t, dir, func() {
			pass(time.Second)
			b.rt.mu.Lock()
			b.rt.fail["update"] = errNope
			b.rt.mu.Unlock()
			b.update(newPod("p", sized("500m", "", "64Mi", ""), generation(2)))
			pass(time.Second)
		})
		delete(b.rt.fail, "update")
		b.rt.calls = nil
		b.run(t, dir, func() { pass(5 * time.Second) })
		if got := strings.Join(b.updates(), "|"); got != "c shares=512 quota=-1 memory=0" {
			t.Errorf("updates %q", got)
		}
		b.rt.calls = nil
		b.run(t, dir, func() { pass(5 * time.Second) })
		if got := b.updates(); len(got) > 0 {
			t.Errorf("done once more: %v", got)
		}
		if s := b.rec.get("ns/p"); s.ContainerStatuses[0].RestartCount != 0 || s.ContainerStatuses[0].Resources.Requests.Cpu().String() != "500m" {
			t.Errorf("%+v", s.ContainerStatuses[0])
		}
	})
}
