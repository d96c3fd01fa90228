package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/tests/lab"
)

const (
	// crashPods is how many pods a test creates and deletes without CRASHPODS.
	crashPods = 24
	// crashBatch pods are created with one command, crashAlive at most are there.
	crashBatch, crashAlive = 4, 8
)

// TestAgentCrashes kills the agent at random moments while pods come and go: at the
// end exactly the pods that are wanted run, no container was replaced that ran, and
// nothing is left of the others. CRASHPODS=100 makes it 200 creations and deletions,
// SEED repeats a run.
func TestAgentCrashes(t *testing.T) {
	t.Parallel()
	c := newCrash(t)
	c.churn(t, func(ctx context.Context) error {
		if err := c.edge.KillAgent(ctx); err != nil {
			return err
		}
		return c.edge.StartAgent(ctx)
	}, 2*time.Second)
	c.settle(t)
	c.nothingRestarted(t)
	c.nothingLeft(t, true)
}

// TestRuntimeCrashes does the same to the runtime. What it loses of a sandbox that
// it was about to make is its own affair; the agent's things must be gone.
func TestRuntimeCrashes(t *testing.T) {
	t.Parallel()
	c := newCrash(t)
	c.runtimeDies = true
	c.churn(t, func(ctx context.Context) error {
		if err := c.edge.KillRuntime(ctx); err != nil {
			return err
		}
		if err := c.wait(ctx, time.Second); err != nil {
			return err
		}
		return c.edge.StartRuntime(ctx)
	}, 5*time.Second)
	c.settle(t)
	c.nothingRestarted(t)
	c.nothingLeft(t, false)
}

// TestRebootDuringWork takes the power from the machine while pods come and go, and
// starts it again.
func TestRebootDuringWork(t *testing.T) {
	t.Parallel()
	c := newCrash(t)
	c.runtimeDies = true
	cuts := 0
	c.churn(t, func(ctx context.Context) error {
		if cuts > 0 {
			return errEnough
		}
		cuts++
		if err := c.edge.CutPower(ctx); err != nil {
			return err
		}
		if err := c.edge.StartMachine(ctx, "A"); err != nil {
			return err
		}
		return c.edge.StartAgent(ctx)
	}, 4*time.Second)
	c.settle(t)
	for _, pod := range c.list(t) {
		for _, s := range pod.Status.ContainerStatuses {
			if s.RestartCount > 1 {
				t.Errorf("pod %s: %d restarts by one reboot", pod.Name, s.RestartCount)
			}
		}
	}
	c.nothingLeft(t, false)
}

// crash is an edge on which pods come and go.
type crash struct {
	edge   *lab.Edge
	ns     string
	cri    *cri.Client
	random *rand.Rand // of the test's goroutine
	faults *rand.Rand // of the goroutine that breaks things
	pods   int
	// runtimeDies: what ends meanwhile may have ended anyhow, as far as the runtime
	// knows. Then a pod that never restarts has failed, and an init container runs
	// again, as on a kubelet.
	runtimeDies bool

	mu  sync.Mutex                         // guards the following field
	ran map[types.UID]map[string]time.Time // by pod, the containers that were seen to run, and since when
}

// errEnough ends the faults before the work ends.
var errEnough = errors.New("no more faults")

func newCrash(t *testing.T) *crash {
	t.Helper()
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("SEED"), strconv.FormatUint(rand.Uint64(), 10)), 10, 64)
	must(t, err)
	pods, err := strconv.Atoi(cmp.Or(os.Getenv("CRASHPODS"), strconv.Itoa(crashPods)))
	must(t, err)
	t.Logf("CRASHPODS=%d SEED=%d", pods, seed)
	c := &crash{
		ns: newNamespace(t), edge: newEdge(t), pods: pods, ran: map[types.UID]map[string]time.Time{},
		random: rand.New(rand.NewPCG(seed, 1)), faults: rand.New(rand.NewPCG(seed, 2)),
	}
	c.cri, err = cri.New(cri.Config{Endpoint: c.edge.CRISocket()})
	must(t, err)
	t.Cleanup(func() {
		if err := c.cri.Close(); err != nil {
			t.Error(err)
		}
	})
	applySettings(t, c.ns)
	return c
}

// churn creates and deletes pods while fault is done again and again, at random
// moments up to pause apart.
func (c *crash) churn(t *testing.T, fault func(context.Context) error, pause time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var side sync.WaitGroup
	defer func() { // also when this fails: cleanups must not meet a fault half done
		cancel()
		side.Wait()
	}()
	failed := make(chan error, 1)
	faults := 0
	begin := time.Now()
	create(t, c.newPods(0, crashBatch/2)) // these must outlive all
	side.Go(func() { c.watch(ctx) })
	side.Go(func() {
		for c.wait(ctx, time.Duration(c.faults.Int64N(int64(pause)))) == nil {
			// What was begun must end, or the next step finds half of it.
			err := fault(context.WithoutCancel(ctx))
			if errors.Is(err, errEnough) {
				return
			}
			if err != nil {
				failed <- err
				return
			}
			faults++
		}
	})
	alive := []string{}
	for made := crashBatch / 2; made < c.pods; {
		list := c.newPods(made, min(crashBatch, c.pods-made))
		made += len(list.Items)
		create(t, list)
		for i := range list.Items {
			alive = append(alive, list.Items[i].Name)
		}
		must(t, c.wait(t.Context(), time.Duration(c.random.Int64N(int64(3*time.Second)))))
		for len(alive) > crashAlive-crashBatch {
			i := c.random.IntN(len(alive))
			kubectl(t, "-n", c.ns, "delete", "pod", alive[i], "--wait=false")
			alive = slices.Delete(alive, i, i+1)
		}
	}
	must(t, c.wait(t.Context(), pause)) // for a fault while the last ones come up
	cancel()
	side.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	if len(alive) == 0 || faults == 0 {
		t.Errorf("%d pods are left, %d faults: this test tests nothing", len(alive), faults)
	}
	t.Logf("%d pods created, %d deleted, %d faults in %v", c.pods, c.pods-len(alive)-crashBatch/2, faults, time.Since(begin).Round(time.Second))
}

func (*crash) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// newPods are count pods of all sorts, the first one with number from.
func (c *crash) newPods(from, count int) *corev1.PodList {
	list := &corev1.PodList{}
	list.APIVersion, list.Kind = "v1", "PodList"
	for n := from; n < from+count; n++ {
		pod := newPod(c.ns, fmt.Sprintf("pod%d", n), c.edge, shell("main", idle))
		switch n % 4 {
		case 0: // volumes of all kinds, one of them a part of another
			withVolumes(pod)
		case 1:
			pod.Spec.InitContainers = []corev1.Container{shell("init", "sleep 0.2")}
			pod.Spec.Containers = append(pod.Spec.Containers, shell("second", idle))
		case 2:
			pod.Spec.Containers[0] = shell("main", "sleep 0.5")
			pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		default:
		}
		list.Items = append(list.Items, *pod)
	}
	return list
}

func withVolumes(pod *corev1.Pod) {
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		{Name: "settings", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}},
		{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "secret"}}},
	}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
		{Name: "memory", MountPath: "/memory"},
		{Name: "memory", MountPath: "/part", SubPath: "a/b"},
		{Name: "settings", MountPath: "/colour", SubPath: "colour"},
		{Name: "secret", MountPath: "/secret"},
	}
}

// watch notes which containers run.
func (c *crash) watch(ctx context.Context) {
	for c.wait(ctx, 300*time.Millisecond) == nil {
		c.look(ctx)
	}
}

// look is one look of watch. What can't be seen now is seen later.
func (c *crash) look(ctx context.Context) {
	listed, err := c.cri.ListContainers(ctx, nil)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range listed {
		uid := types.UID(l.Labels["io.kubernetes.pod.uid"])
		if _, known := c.ran[uid][l.ID]; known || l.State != cri.StateRunning || c.mayRunAgain(l.Name) {
			continue
		}
		st, err := c.cri.ContainerStatus(ctx, l.ID)
		if err != nil {
			continue
		}
		if c.ran[uid] == nil {
			c.ran[uid] = map[string]time.Time{}
		}
		c.ran[uid][l.ID] = st.StartedAt
	}
}

// list are the pods that the API has.
func (c *crash) list(t *testing.T) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	must(t, json.Unmarshal([]byte(kubectl(t, "-n", c.ns, "get", "pods", "-o", "json")), &list))
	return list.Items
}

// over says whether a pod that ends by itself has ended.
func (c *crash) over(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodFailed && c.runtimeDies {
		return !slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
			return s.State.Terminated == nil || s.State.Terminated.ExitCode != 0 && !lost(s.State.Terminated)
		})
	}
	return pod.Status.Phase == corev1.PodSucceeded
}

// lost says whether containerd has died with what it knew of a container's end.
func lost(end *corev1.ContainerStateTerminated) bool {
	return end != nil && end.ExitCode == 255 && end.Reason == "Unknown"
}

// mayRunAgain says whether a container may be another one in the end.
func (c *crash) mayRunAgain(name string) bool { return c.runtimeDies && name == "init" }

// settle waits until all pods are as they should be: those deleted gone, the others
// running or done.
func (c *crash) settle(t *testing.T) {
	t.Helper()
	begin := time.Now()
	eventually(t, "all pods to be as wanted", func() error {
		var errs []error
		for _, pod := range c.list(t) {
			switch {
			case pod.DeletionTimestamp != nil:
				errs = append(errs, fmt.Errorf("pod %s is still there", pod.Name))
			case pod.Spec.RestartPolicy == corev1.RestartPolicyNever && c.over(&pod):
			default:
				if err := running(&pod); err != nil {
					errs = append(errs, fmt.Errorf("pod %s: %w", pod.Name, err))
				}
			}
		}
		return errors.Join(errs...)
	})
	t.Logf("all is as wanted %v after the last fault", time.Since(begin).Round(100*time.Millisecond))
	c.look(t.Context())
}

// nothingRestarted fails the test if a container of a wanted pod ran that is not the
// one of now, or if the pod has more than it should.
func (c *crash) nothingRestarted(t *testing.T) {
	t.Helper()
	now := map[types.UID][]cri.Container{}
	// The API forgets at once a pod that has ended by itself; the edge hears of it.
	eventually(t, "only containers of wanted pods", func() error {
		listed, err := c.cri.ListContainers(t.Context(), nil)
		if err != nil {
			return err
		}
		clear(now)
		for _, l := range listed {
			uid := types.UID(l.Labels["io.kubernetes.pod.uid"])
			now[uid] = append(now[uid], l)
		}
		unwanted := maps.Clone(now)
		for _, pod := range c.list(t) {
			delete(unwanted, pod.UID)
		}
		if len(unwanted) > 0 {
			return fmt.Errorf("there are containers of others: %+v", unwanted)
		}
		return nil
	})
	for _, pod := range c.list(t) {
		want := len(pod.Spec.Containers) + len(pod.Spec.InitContainers)
		if got := now[pod.UID]; len(got) != want {
			t.Errorf("pod %s has %d containers, want %d: %+v", pod.Name, len(got), want, got)
		}
		for id, since := range c.ran[pod.UID] {
			st, err := c.cri.ContainerStatus(t.Context(), id)
			if err != nil || !st.StartedAt.Equal(since) {
				t.Errorf("pod %s: container %s ran since %v; now %+v, %v", pod.Name, id, since, st, err)
			}
		}
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			_, id, _ := strings.Cut(s.ContainerID, "://")
			again := s.RestartCount != 0 && (!c.mayRunAgain(s.Name) || !lost(s.LastTerminationState.Terminated))
			if again || !slices.ContainsFunc(now[pod.UID], func(l cri.Container) bool { return l.ID == id }) {
				t.Errorf("pod %s: container %s was restarted: %+v, the runtime has %+v", pod.Name, s.Name, s, now[pod.UID])
			}
		}
	}
}

// nothingLeft fails the test if there is anything of pods that are not wanted, now
// and when none is wanted any more; of the runtime's own things too if runtimes.
func (c *crash) nothingLeft(t *testing.T, runtimes bool) {
	t.Helper()
	wanted := map[string]bool{}
	for _, pod := range c.list(t) {
		wanted[string(pod.UID)] = true
	}
	c.traces(t, "of pods that are gone", func(have map[string][]string) []string {
		var left []string
		for _, kind := range []string{lab.PodDirs, lab.PodMounts, lab.PodCgroups, lab.PodLogs} {
			for _, name := range have[kind] {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(wanted)), func(uid string) bool { return strings.Contains(name, uid) }) {
					left = append(left, kind+": "+name)
				}
			}
		}
		return left
	})
	kubectl(t, "-n", c.ns, "delete", "pods", "--all")
	c.traces(t, "when no pod is left", func(have map[string][]string) []string {
		var left []string
		for kind, names := range have {
			for _, name := range names {
				if runtimes || slices.Contains([]string{lab.PodDirs, lab.PodMounts, lab.PodCgroups, lab.PodLogs, lab.Containers}, kind) {
					left = append(left, kind+": "+name)
				} else {
					t.Logf("the runtime keeps %s: %s", kind, name)
				}
			}
		}
		return left
	})
}

// traces waits until left finds nothing in what the machine has.
func (c *crash) traces(t *testing.T, when string, left func(map[string][]string) []string) {
	t.Helper()
	err := lab.Until(t.Context(), patience, "an end of all traces "+when, func() error {
		have, err := c.edge.Traces(t.Context())
		if err != nil {
			return err
		}
		if l := left(have); len(l) > 0 {
			slices.Sort(l)
			return errors.New(strings.Join(l, "\n"))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
