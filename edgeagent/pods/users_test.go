package pods

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/userns"
)

func withOwnUsers(p *corev1.Pod) { p.Spec.HostUsers = new(false) }

// canUsers is a runtime that gives pods users of their own, on a machine with three
// ranges.
func canUsers(c *Config) {
	c.Features = func(_ context.Context, handler string) (cri.HandlerFeatures, error) {
		return cri.HandlerFeatures{UserNamespaces: handler != "old"}, nil
	}
	c.Users = func(context.Context) (userns.Span, error) {
		return userns.Span{First: 2 * userns.Size, Count: 3 * userns.Size}, nil
	}
}

// A pod that asks for users of its own never runs with the machine's: not where the
// runtime can't, and not where it does not answer.
func TestOwnUsersRefused(t *testing.T) {
	const failed = "Warning FailedCreatePodSandBox: Failed to create pod sandbox: "
	for name, tt := range map[string]struct {
		change func(*Config)
		class  *string
		event  string
	}{
		"runtime":    {nil, nil, failed + "can't set `spec.hostUsers: false`, runtime does not support user namespaces"},
		"handler":    {canUsers, new("old"), failed + "can't set `spec.hostUsers: false`, RuntimeClass handler \"old\" does not support user namespaces"},
		"no answer":  {func(c *Config) { c.Features = brokenFeatures }, nil, failed + "is containerd running?"},
		"none free":  {func(c *Config) { canUsers(c); c.Users = noUsers }, nil, failed + "create user namespace: getsubids kubelet: exit status 1"},
		"not a span": {func(c *Config) { canUsers(c); c.Users = oddUsers }, nil, failed + "create user namespace: the subordinate IDs of user kubelet"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				b.change = tt.change
				b.objects.put(newPod("p", withOwnUsers, func(p *corev1.Pod) { p.Spec.RuntimeClassName = tt.class }))
			}, func(b *bubble) {
				pass(time.Minute)
				b.see(t, "p", "Pending c=ContainerCreating")
				if !b.rec.hasEvent(tt.event) || strings.Contains(b.rt.log(), "sandbox p") {
					t.Errorf("events %v\n%s", b.rec.events, b.rt.log())
				}
			})
		})
	}
}

// TestCanMapVolumes: what is in memory, and a token is, has no owners of its own on an
// older kernel.
func TestCanMapVolumes(t *testing.T) {
	volume := func(s corev1.VolumeSource) *corev1.Pod {
		return newPod("p", func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: s}} })
	}
	memory := func(m corev1.StorageMedium) *corev1.Pod {
		return volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: m}})
	}
	for _, tt := range []struct {
		kernel string
		pod    *corev1.Pod
		want   string
	}{
		{"6.1.0-48-cloud-amd64", newPod("none"), ""},
		{"6.1.0-48-cloud-amd64", memory(""), ""},
		{"6.1.0-48-cloud-amd64", volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}), ""},
		{"6.1.0-48-cloud-amd64", volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}), `volume "v" is in memory, and this kernel (6.1.0-48-cloud-amd64) can't map the users of files there: Linux 6.3 can`},
		{"6.1.0-48-cloud-amd64", volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}), "Linux 6.3 can"},
		{"6.3.0", memory(corev1.StorageMediumMemory), ""},
		{"6.3.0", memory("HugePages-2Mi"), "Linux 6.9 can"},
		{"6.12.9", memory("HugePages-2Mi"), ""},
	} {
		err := canMapVolumes(tt.kernel, tt.pod)
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasSuffix(err.Error(), tt.want) {
			t.Errorf("%s, %+v: %v, want %q", tt.kernel, tt.pod.Spec.Volumes, err, tt.want)
		}
	}
}

func brokenFeatures(context.Context, string) (cri.HandlerFeatures, error) {
	return cri.HandlerFeatures{}, errors.New("is containerd running?")
}

func noUsers(context.Context) (userns.Span, error) {
	return userns.Span{}, errors.New("getsubids kubelet: exit status 1")
}

func oddUsers(context.Context) (userns.Span, error) {
	return userns.Span{First: 1, Count: userns.Size}, nil
}

func (b *bubble) apply(p *corev1.Pod) {
	b.objects.put(p)
	b.m.Wake(keyOf(p))
}

// end has a pod's only container end.
func (b *bubble) end(t *testing.T, name string, code int32) {
	t.Helper()
	p, ok := b.m.Lookup("ns", name, "")
	if !ok || len(p.Containers) == 0 {
		t.Fatalf("%s has no container", name)
	}
	b.rt.exit(p.Containers[0].ID, code)
}

func (f *fakeRuntime) usersOf(name string) (sandbox, container *cri.Users) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.users["sandbox "+name], f.users["container "+name]
}

// TestOwnUsers: sandbox and containers have the same users, another pod others, and
// over a restart of the agent both keep theirs. What ends gives its own back.
func TestOwnUsers(t *testing.T) {
	dir := t.TempDir()
	has := func(t *testing.T, b *bubble, name string, first uint32) {
		t.Helper()
		b.see(t, name, "Running c=Running+")
		want := cri.Users{First: first * userns.Size, Count: userns.Size}
		if s, c := b.rt.usersOf(name); s == nil || c == nil || *s != want || *c != want {
			t.Errorf("%s: sandbox %v, container %v, want %v", name, s, c, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		first := &bubble{rt: newFakeRuntime(), objects: newObjects(newPod("host"), newPod("a", withOwnUsers)), rec: newRecorder(), change: canUsers}
		first.run(t, dir, func() {
			pass(time.Minute)
			has(t, first, "a", 2)
			if s, c := first.rt.usersOf("host"); s != nil || c != nil {
				t.Errorf("a pod with the machine's users has %v, %v", s, c)
			}
			first.apply(newPod("b", withOwnUsers))
			pass(time.Minute)
			has(t, first, "b", 3)
		})
		next := &bubble{rt: first.rt, objects: first.objects, rec: newRecorder(), change: canUsers}
		next.run(t, dir, func() {
			pass(time.Minute)
			next.end(t, "b", 1) // its next container is this agent's
			next.apply(newPod("c", withOwnUsers, policy(corev1.RestartPolicyNever)))
			pass(time.Minute)
			if s := next.rec.get("ns/b"); s.ContainerStatuses[0].RestartCount != 1 {
				t.Errorf("b: %s", describe(&s))
			}
			if _, c := next.rt.usersOf("b"); c == nil || c.First != 3*userns.Size {
				t.Errorf("b restarted with %v", c)
			}
			has(t, next, "c", 4)
			next.apply(newPod("d", withOwnUsers))
			pass(time.Minute)
			if !next.rec.hasEvent("create user namespace: no range of user IDs is free: pods have all 3") {
				t.Errorf("events %v", next.rec.events)
			}
			next.end(t, "c", 0) // finished, and still there
			pass(10 * time.Minute)
			has(t, next, "d", 4)
			next.objects.remove("pods/ns/a")
			next.m.Wake("pods/ns/a")
			pass(time.Minute)
			if _, err := os.Stat(filepath.Join(dir, "pods", "uid-a")); err == nil {
				t.Error("the range of a pod that is gone is kept")
			}
		})
	})
}
