package pods

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

func requesting(list corev1.ResourceList) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = list }
}

func amount(name corev1.ResourceName, q string) corev1.ResourceList {
	return corev1.ResourceList{name: resource.MustParse(q)}
}

// offers is a node of one CPU and one gigabyte with three pods.
func offers(c *Config) {
	all := corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi"), "pods": resource.MustParse("3")}
	c.Allocatable = func() corev1.ResourceList { return all }
}

func TestRefusedPod(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.change = offers
		b.objects.put(newPod("p", requesting(amount("cpu", "2"))))
	}, func(b *bubble) {
		const text = "Node didn't have enough resource: cpu, requested: 2000, used: 0, capacity: 1000"
		pass(time.Second)
		s := b.rec.get("ns/p")
		if s.Phase != corev1.PodFailed || s.Reason != "OutOfcpu" || s.Message != "Pod was rejected: "+text {
			t.Errorf("%s %s %q", s.Phase, s.Reason, s.Message)
		}
		if len(s.ContainerStatuses) > 0 {
			t.Error("containers of a pod that never was are shown")
		}
		if c := findCondition(s.Conditions, corev1.PodReady); c == nil || c.Status != corev1.ConditionFalse || c.Reason != "PodFailed" {
			t.Errorf("Ready is %+v", c)
		}
		if !b.rec.hasEvent("Warning OutOfcpu: " + text) {
			t.Errorf("events %v", b.rec.events)
		}
		if strings.Contains(b.rt.log(), "sandbox p#") {
			t.Error("something of it was started")
		}
	})
}

// A refusal is for good, also when the next agent finds the node empty.
func TestRefusedPodStaysSo(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{rt: newFakeRuntime(), objects: newObjects(newPod("p", requesting(amount("cpu", "2")))), rec: newRecorder(), change: offers}
		b.run(t, dir, func() { pass(time.Second) })
		first := b.rec.get("ns/p")
		b.rec, b.change = newRecorder(), nil
		b.run(t, dir, func() {
			pass(time.Second)
			if s := b.rec.get("ns/p"); s.Phase != corev1.PodFailed || s.Reason != first.Reason || len(s.ContainerStatuses) > 0 {
				t.Errorf("%s %s with %d containers", s.Phase, s.Reason, len(s.ContainerStatuses))
			}
		})
		if log := b.rt.log(); log != "" {
			t.Errorf("the runtime was asked for\n%s", log)
		}
	})
}

// A pod that was ended stays so, also when the disk was full as it ended.
func TestEndedPodStaysSo(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{rt: newFakeRuntime(), objects: newObjects(newPod("p")), rec: newRecorder()}
		b.run(t, dir, func() {
			pass(time.Second)
			full := filepath.Join(b.m.env.volumes.PodDir("uid-p"), statusFileTmp)
			if err := os.Mkdir(full, 0o700); err != nil {
				t.Fatal(err)
			}
			b.m.End("uid-p", End{Reason: "Evicted"})
			pass(time.Minute)
			b.see(t, "p", "Failed c=Completed(0)")
			if err := b.m.DeleteDead(t.Context()); err != nil {
				t.Error(err)
			}
			if len(b.rt.containers) != 1 {
				t.Error("the last that tells of its end was removed")
			}
			if err := os.Remove(full); err != nil {
				t.Fatal(err)
			}
			pass(saveRetry)
		})
		b.rec = newRecorder()
		b.run(t, dir, func() {
			pass(time.Minute)
			if s := b.rec.get("ns/p"); s.Phase != corev1.PodFailed || s.Reason != "Evicted" {
				t.Errorf("with the next agent: %s %s", describe(&s), s.Reason)
			}
		})
	})
}

// What was admitted once is not asked again: not while it runs, and not after a
// reboot that has left nothing of it.
func TestAdmittedForEver(t *testing.T) {
	dir := t.TempDir()
	selects := func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"site": "a"} }
	labelled := func(site string) func(*Config) {
		return func(c *Config) {
			offers(c)
			c.Node = func() (*corev1.Node, error) {
				return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"site": site}}}, nil
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{rt: newFakeRuntime(), objects: newObjects(newPod("p", selects, requesting(amount("cpu", "800m")))), rec: newRecorder(), change: labelled("a")}
		b.run(t, dir, func() { pass(time.Second); b.see(t, "p", "Running c=Running+") })
		b.rec, b.change = newRecorder(), labelled("b")
		b.run(t, dir, func() { pass(time.Second); b.see(t, "p", "Running c=Running+") })
		b.rt.sandboxes, b.rt.containers = nil, nil
		b.objects.put(newPod("late", requesting(amount("cpu", "400m"))))
		b.rec = newRecorder()
		b.run(t, dir, func() {
			pass(10 * time.Second)
			b.see(t, "p", "Running c=Running+")
			if s := b.rec.get("ns/late"); s.Reason != "OutOfcpu" {
				t.Errorf("the new one beside it: %s %s", s.Phase, s.Reason)
			}
		})
	})
}

// What a pod held is there for others when it has ended.
func TestRoomAfterPods(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.change = offers
		b.rt.exitAfter["c"] = time.Minute
		b.objects.put(newPod("first", policy(corev1.RestartPolicyNever), requesting(amount("cpu", "1"))))
	}, func(b *bubble) {
		pass(30 * time.Second)
		b.objects.put(newPod("early", requesting(amount("cpu", "1"))))
		b.m.Wake("pods/ns/early")
		pass(time.Second)
		if s := b.rec.get("ns/early"); s.Reason != "OutOfcpu" {
			t.Errorf("beside a pod that has it all: %s %s", s.Phase, s.Reason)
		}
		pass(time.Minute)
		b.objects.put(newPod("late", policy(corev1.RestartPolicyNever), requesting(amount("cpu", "1"))))
		b.m.Wake("pods/ns/late")
		pass(time.Second)
		b.see(t, "late", "Running c=Running+")
	})
}

// A critical pod takes the place of another, but only when that has ended.
func TestPreemption(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.change = offers
		b.rt.deaf["c"] = true
		b.objects.put(newPod("small", requesting(amount("cpu", "200m"))))
		b.objects.put(newPod("big", requesting(amount("cpu", "700m")), func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(5)) }))
	}, func(b *bubble) {
		pass(time.Second)
		b.objects.put(newPod("boss", requesting(amount("cpu", "500m")), func(p *corev1.Pod) { p.Spec.Priority = new(int32(2000000000)) }))
		b.m.Wake("pods/ns/boss")
		pass(3 * time.Second)
		if s := b.rec.get("ns/boss"); s.Phase != corev1.PodPending {
			t.Errorf("it does not wait: %s", s.Phase)
		}
		b.objects.put(newPod("thief", requesting(amount("cpu", "50m"))))
		b.m.Wake("pods/ns/thief")
		pass(7 * time.Second)
		b.see(t, "boss", "Running c=Running+")
		b.see(t, "small", "Running c=Running+")
		s := b.rec.get("ns/big")
		if s.Phase != corev1.PodFailed || s.Reason != "Preempting" || s.Message != "Preempted in order to admit critical pod" {
			t.Errorf("%s %s %q", s.Phase, s.Reason, s.Message)
		}
		if c := findCondition(s.Conditions, corev1.DisruptionTarget); c == nil || c.Reason != "TerminationByKubelet" {
			t.Errorf("DisruptionTarget is %+v", c)
		}
		if !b.rec.hasEvent("Warning Preempting: Preempted in order to admit critical pod") {
			t.Errorf("events %v", b.rec.events)
		}
	})
}

// Of many equal pods only as many go as it takes, however long that takes.
func TestPreemptsNoMoreThanNeeded(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.change = offers
		b.rt.deaf["c"] = true
		for _, name := range []string{"a", "b", "c"} {
			b.objects.put(newPod(name))
		}
	}, func(b *bubble) {
		pass(time.Second)
		for _, name := range []string{"boss", "chief"} {
			b.objects.put(newPod(name, func(p *corev1.Pod) { p.Spec.Priority = new(int32(2000000000)) }))
			b.m.Wake("pods/ns/" + name)
		}
		pass(time.Minute)
		b.see(t, "boss", "Running c=Running+")
		b.see(t, "chief", "Running c=Running+")
		gone := 0
		for _, name := range []string{"a", "b", "c"} {
			if b.rec.get("ns/"+name).Reason == reasonPreempting {
				gone++
			}
		}
		if gone != 2 {
			t.Errorf("%d pods made room for two", gone)
		}
	})
}

// What only ends is waited for: a pod that was deleted by force holds its port and
// its share until its containers have stopped.
func TestWaitsForDeletedByForce(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.change = offers
		b.rt.deaf["c"] = true
		b.objects.put(newPod("old", onPort, requesting(amount("cpu", "800m"))))
	}, func(b *bubble) {
		pass(time.Second)
		b.objects.remove("pods/ns/old")
		b.m.Wake("pods/ns/old")
		for _, name := range []string{"new", "late"} {
			b.objects.put(newPod(name, onPort, requesting(amount("cpu", "800m"))))
			b.m.Wake("pods/ns/" + name)
			pass(time.Second)
		}
		if s := b.rec.get("ns/late"); s.Reason != "OutOfcpu" {
			t.Errorf("beside one that waits for the place: %s %s", s.Phase, s.Reason)
		}
		pass(10 * time.Second)
		b.see(t, "new", "Pending c=ContainerCreating")
		pass(time.Minute)
		b.see(t, "new", "Running c=Running+")
	})
}

func onPort(p *corev1.Pod) {
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}}
}

// A pod that is ended for the node's sake does not come back, whatever its policy.
func TestEnd(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.rt.deaf["c"] = true
		b.objects.put(newPod("p"))
	}, func(b *bubble) {
		pass(time.Second)
		none := time.Duration(0) // a soft threshold's default
		if !b.m.End("uid-p", End{Reason: "Evicted", Message: "The node was low on resource: memory. ", Grace: &none, Condition: "The node was low on resource: memory. "}) {
			t.Fatal("no such pod")
		}
		pass(3 * time.Second)
		b.see(t, "p", "Failed c=Error(137)")
		if s := b.rec.get("ns/p"); s.Reason != "Evicted" || findCondition(s.Conditions, corev1.DisruptionTarget) == nil {
			t.Errorf("%s with %+v", s.Reason, s.Conditions)
		}
		if b.m.End("uid-p", End{Reason: "Evicted"}) || b.m.End("nobody", End{}) {
			t.Error("it can be ended again")
		}
		pass(time.Hour)
		if n := strings.Count(b.rt.log(), "create c#"); n != 1 {
			t.Errorf("%d containers made", n)
		}
		if log := strings.Split(b.rt.log(), "\n"); !slices.ContainsFunc(log, func(s string) bool { return strings.HasSuffix(s, "stop c 2s") }) {
			t.Errorf("not with the least grace:\n%s", b.rt.log())
		}
	})
}

// Whether the runtime can do what a pod needs is waited for, as it may not have been
// asked yet.
func TestStrictGroups(t *testing.T) {
	for _, able := range []bool{true, false} {
		t.Run(strconv.FormatBool(able), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				start := time.Now()
				b.change = func(c *Config) {
					c.Handlers = func() ([]corev1.NodeRuntimeHandler, *corev1.NodeFeatures) {
						if time.Since(start) < 10*time.Second {
							return nil, nil
						}
						return nil, &corev1.NodeFeatures{SupplementalGroupsPolicy: &able}
					}
				}
				b.objects.put(newPod("p", func(p *corev1.Pod) {
					p.Spec.SecurityContext = &corev1.PodSecurityContext{SupplementalGroupsPolicy: new(corev1.SupplementalGroupsPolicyStrict)}
				}))
			}, func(b *bubble) {
				pass(5 * time.Second)
				b.see(t, "p", "Pending c=ContainerCreating")
				pass(10 * time.Second)
				want := "Failed"
				if able {
					want = "Running c=Running+"
				}
				b.see(t, "p", want)
			})
		})
	}
}

// A pod may come before the label that it selects, but not for ever.
func TestWaitsForLabels(t *testing.T) {
	for _, site := range []string{"a", "b"} {
		t.Run(site, func(t *testing.T) {
			asked := 0
			inBubble(t, func(b *bubble) {
				start := time.Now()
				b.change = func(c *Config) {
					c.Node = func() (*corev1.Node, error) {
						asked++
						labels := map[string]string{}
						if time.Since(start) > 5*time.Second {
							labels["site"] = site
						}
						return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: labels}}, nil
					}
				}
				b.objects.put(newPod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"site": "a"} }))
			}, func(b *bubble) {
				pass(2 * time.Second)
				b.see(t, "p", "Pending c=ContainerCreating")
				pass(labelPatience)
				if site == "a" {
					b.see(t, "p", "Running c=Running+")
				} else if s := b.rec.get("ns/p"); s.Reason != "NodeAffinity" {
					t.Errorf("%s %s", s.Phase, s.Reason)
				}
				before := asked
				b.m.Wake("pods/ns/p")
				pass(time.Minute)
				if asked != before {
					t.Errorf("the Node was read %d times for nothing", asked-before)
				}
			})
		})
	}
}

// slowDisk takes long to remove what a pod has written.
type slowDisk struct{}

func (slowDisk) Memory(string, volumes.MemoryFS) error { return nil }
func (slowDisk) Bind(*os.File, string) error           { return nil }
func (slowDisk) Unmount(string) error                  { return nil }
func (slowDisk) Mounts(string) ([]string, error) {
	<-time.After(20 * time.Second)
	return nil, nil
}

// A pod has ended when its files are gone: whoever ended it for want of disk looks
// again then.
func TestEndedWithItsVolumes(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.mounter = slowDisk{}
		b.objects.put(newPod("p", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}))
	}, func(b *bubble) {
		pass(30 * time.Second)
		b.see(t, "p", "Running c=Running+")
		b.m.End("uid-p", End{Reason: "Evicted"})
		pass(10 * time.Second)
		b.see(t, "p", "Failed c=Completed(0)")
		if b.m.Ended("uid-p") {
			t.Error("ended with its volume still there")
		}
		pass(5 * time.Minute)
		if !b.m.Ended("uid-p") {
			t.Error("never ended")
		}
	})
}
