package pods

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestSweepAgain: what could not be removed at the start, or was left since, goes
// later; what belongs to a pod stays.
func TestSweepAgain(t *testing.T) {
	var late, own, foreign string
	inBubble(t, func(b *bubble) { b.objects.put(newPod("p")) }, func(b *bubble) {
		logs := b.m.env.LogsDir
		late, own, foreign = b.m.env.volumes.PodDir("uid-late"), b.m.env.volumes.PodDir("uid-p"), filepath.Join(logs, "not-a-pod")
		for _, dir := range []string{late, filepath.Join(logs, "ns_late_uid-late", "c"), filepath.Join(logs, "ns_p_uid-p", "c"), foreign} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		pass(sweepEvery)
		if !exists(late) {
			t.Error("removed at once: a pod might be about to use it")
		}
		pass(sweepEvery)
		if exists(late) || exists(filepath.Join(logs, "ns_late_uid-late")) {
			t.Error("leftovers stay")
		}
		if !exists(own) || !exists(foreign) || !exists(filepath.Join(logs, "ns_p_uid-p")) {
			t.Error("removed what is no leftover")
		}
	})
}

// groups are control groups, by path.
type groups struct {
	noCgroups
	mu    sync.Mutex // guards the following field
	paths []string
}

func (g *groups) Children(dir string) (out []string, _ error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.paths {
		if path.Dir(p) == dir {
			out = append(out, path.Base(p))
		}
	}
	return out, nil
}

func (g *groups) Remove(paths ...string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.paths = slices.DeleteFunc(g.paths, func(p string) bool { return slices.Contains(paths, p) })
	return nil
}

// TestSweepGroups: only what has a pod's name is a leftover of one, be it of this
// driver or of the one before.
func TestSweepGroups(t *testing.T) {
	theirs := []string{
		"/kubepods/podman", "/kubepods/podman-17.scope", "/kubepods/pod", "/kubepods/poddeadbeef", "/kubepods/system.slice",
		"/kubepods.slice/podman.slice", "/kubepods.slice/kubepods-burstable.slice", "/kubepods.slice/cri-containerd-0123456789abcdef.scope", "/kubepods.slice/kubepods-pod.slice",
	}
	pods := []string{ // the cloud's, a static one
		"/kubepods/pod0a1b2c3d-0000-4000-8000-0123456789ab", "/kubepods/burstable/pod0123456789abcdef0123456789abcdef",
		"/kubepods.slice/kubepods-pod0a1b2c3d_0000_4000_8000_0123456789ac.slice", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0123456789abcdef0123456789abcdea.slice",
	}
	for _, driver := range []cgroups.Driver{cgroups.Cgroupfs, cgroups.Systemd} {
		g := &groups{paths: slices.Concat(theirs, pods)}
		inBubble(t, func(b *bubble) {
			b.change = func(c *Config) { c.Cgroups, c.Groups.Driver = g, driver }
		}, func(*bubble) { pass(3 * sweepEvery) })
		if !slices.Equal(g.paths, theirs) {
			t.Errorf("%s: left %v, want %v", driver, g.paths, theirs)
		}
	}
}

// TestSweepNothingWithoutStore: from a store that can't be read follows nothing.
func TestSweepNothingWithoutStore(t *testing.T) {
	inBubble(t, func(b *bubble) { b.objects.broken = errNope }, func(b *bubble) {
		dir := b.m.env.volumes.PodDir("uid-p")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		pass(10 * sweepEvery)
		if !exists(dir) {
			t.Error("a pod's directory was removed")
		}
	})
}

// TestCollectRemovesFiles: of a container that crashes again and again the files
// of two instances are kept.
func TestCollectRemovesFiles(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.objects.put(newPod("p"))
		b.rt.exitAfter["c"], b.rt.exitCode["c"] = 0, 1
		b.rt.logs = true
	}, func(b *bubble) {
		pass(30 * time.Minute)
		for _, dir := range []string{
			filepath.Join(b.m.env.volumes.PodDir("uid-p"), "containers", "c"), filepath.Join(b.m.env.LogsDir, "ns_p_uid-p", "c"),
		} {
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) == 0 || len(entries) > 2 {
				t.Errorf("%s has %d files", dir, len(entries))
			}
		}
		if got := len(b.m.Logs()); got != 1 && got != 2 {
			t.Errorf("%d logs", got)
		}
	})
}

func TestDeleteDead(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.objects.put(newPod("done", policy(corev1.RestartPolicyNever)))
		b.objects.put(newPod("p", func(p *corev1.Pod) { p.Spec.Containers[0].Name = "stays" }))
		b.rt.exitAfter["c"], b.rt.exitCode["c"] = time.Second, 3
	}, func(b *bubble) {
		pass(10 * time.Second)
		if err := b.m.DeleteDead(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		b.see(t, "done", "Failed c=Error(3)")
		b.see(t, "p", "Running stays=Running+")
		if n := strings.Count(b.rt.log(), "create"); n != 2 {
			t.Errorf("%d containers made", n)
		}
		b.rt.mu.Lock()
		defer b.rt.mu.Unlock()
		if len(b.rt.containers) != 1 || b.rt.containers[0].State != cri.StateRunning || len(b.rt.sandboxes) != 1 {
			t.Errorf("left %+v in %+v", b.rt.containers, b.rt.sandboxes)
		}
	})
}
