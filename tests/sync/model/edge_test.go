package model

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/report"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/edgeagent/store/storetest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const node = "edge-1"

// edge is a machine: what survives its process is the disk, and what its runtime
// runs.
type edge struct {
	t      *testing.T
	rng    *rand.Rand
	way    way
	cloud  *objects // for looking at, never for writing
	ledger *ledger

	store    *store.Store
	objects  *desired.Objects
	client   *desired.Client
	reporter *report.Reporter
	steps    *desired.Steps
	stop     context.CancelFunc
	wg       sync.WaitGroup
	gone     map[types.UID]bool // pods whose end this process has reported
	refused  map[types.UID]bool // pods of which the disk did not take the last status
	dropped  uint64             // events that the disk did not take
	skew     time.Duration      // of the machine's clock
	ended    map[types.UID]bool // pods whose containers have ended for good

	mu    sync.Mutex // guards the following fields
	dice  *rand.Rand // of crashes
	fs    *storetest.Disk
	after *storetest.Disk // the disk as a crash left it; nil while there is power
	armed int             // operations on the disk until the power fails; zero means never
	free  uint64          // room on the disk, as far as it tells
	holds map[string]types.UID
	acted map[string]wire.Step // how far what is stored under a key has come, as this process knows
}

func newEdge(t *testing.T, rng *rand.Rand, l way, cloud *objects, led *ledger) *edge {
	t.Helper()
	return &edge{
		t: t, rng: rng, way: l, cloud: cloud, ledger: led,
		dice: rand.New(rand.NewPCG(rng.Uint64(), 0)), fs: storetest.New(), ended: make(map[types.UID]bool),
		free: plenty, skew: time.Duration(rng.IntN(2)*(rng.IntN(240)-120)) * time.Hour,
	}
}

// Room on the disk. The store takes statuses and no more below a megabyte, and nothing
// below a quarter of that; without any, writes fail.
const (
	diskSize = 64 << 20
	plenty   = 32 << 20
	little   = 700 << 10
	scraps   = 100 << 10
)

// disk tells how full the machine's is.
type disk struct {
	vfs.FS
	edge *edge
}

// GetDiskUsage implements vfs.FS.
func (d disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	d.edge.mu.Lock()
	defer d.edge.mu.Unlock()
	return vfs.DiskUsage{AvailBytes: d.edge.free, TotalBytes: diskSize, UsedBytes: diskSize - d.edge.free}, nil
}

// Remove implements vfs.FS. What errorfs is asked to remove was there, it says.
func (d disk) Remove(name string) error {
	if _, err := d.Stat(name); err != nil {
		return err
	}
	return d.FS.Remove(name)
}

// leave has others fill the disk, or make room.
func (e *edge) leave(free uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.free = free
}

func (e *edge) start() {
	e.t.Helper()
	var err error
	e.store, err = store.Open(store.Config{
		Dir: "db", FS: disk{errorfs.Wrap(e.fs, errorfs.InjectorFunc(e.operation)), e}, Log: logger("store"),
		MinFreeBytes: 1 << 20, ReserveBytes: 64 << 10,
	})
	if err != nil {
		e.t.Fatalf("open store: %v", err)
	}
	e.objects = &desired.Objects{Store: e.store}
	e.gone, e.refused = make(map[types.UID]bool), make(map[types.UID]bool)
	e.mu.Lock()
	e.holds = e.podsLocked()
	e.acted = make(map[string]wire.Step)
	for _, key := range e.keys() {
		// Of what pods see a process that is new says nothing.
		if last := wire.LastStep(key); last < wire.StepRunning {
			e.acted[key] = last
		}
	}
	e.mu.Unlock()
	if e.steps, err = desired.NewSteps(e.store); err != nil {
		e.t.Fatal(err)
	}
	dialer, run := e.way.plug()
	if e.client, err = desired.New(desired.Config{Store: e.store, Dialer: dialer, Wake: e.woken, Steps: e.steps, Log: logger(node)}); err != nil {
		e.t.Fatal(err)
	}
	if e.reporter, err = report.New(report.Config{Store: e.store, Dialer: dialer, Log: logger(node), Node: report.NodeConfig{
		Name: node, Root: fstest.MapFS{}, Disk: func(string) (uint64, uint64, error) { return 8 << 30, 6 << 30, nil },
	}}); err != nil {
		e.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(e.t.Context())
	e.stop = stop
	for _, run := range []func(context.Context) error{run, e.client.Run, e.reporter.Run} {
		e.wg.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) && e.powered() {
				e.t.Errorf("edge's Run: %v", err)
			}
		})
	}
}

func (e *edge) halt() {
	e.t.Helper()
	e.stop()
	e.wg.Wait()
	if err := e.store.Close(); err != nil {
		e.t.Errorf("close store: %v", err)
	}
}

// operation is called before each operation on the disk.
func (e *edge) operation(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.armed > 0 {
		if e.armed--; e.armed == 0 {
			e.loseLocked()
		}
	}
	if e.free == 0 && e.after == nil && (op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpCreate) {
		return syscall.ENOSPC
	}
	return nil
}

// loseLocked takes the power away: from here on nothing that the process does
// reaches disk or line. Of what was not synced any part may be lost.
func (e *edge) loseLocked() {
	if e.after == nil {
		e.way.cut()
		e.after = e.fs.Crash(e.dice.IntN(101), e.dice)
	}
}

func (e *edge) powered() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.after == nil
}

// arm has the power fail at the n-th operation on the disk from now.
func (e *edge) arm(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.armed = n
}

// restart starts the machine again, after a crash if there was one, or else in
// peace, or kills the process and leaves the disk as it is.
func (e *edge) restart(crash bool) {
	e.t.Helper()
	e.mu.Lock()
	// An operation that waits for room ends with the process, which it outlives here.
	if crash || e.free == 0 {
		e.loseLocked()
	}
	e.mu.Unlock()
	e.halt()
	e.mu.Lock()
	if e.after != nil {
		e.fs, e.after = e.after, nil
	}
	e.armed = 0
	e.mu.Unlock()
	e.start()
}

// wipe has another machine take this one's place and name, with an empty disk.
func (e *edge) wipe() {
	e.t.Helper()
	e.mu.Lock()
	e.loseLocked()
	e.mu.Unlock()
	e.halt()
	e.mu.Lock()
	e.fs, e.after, e.armed, e.free = storetest.New(), nil, 0, plenty
	e.mu.Unlock()
	clear(e.ended)
	pods, _ := e.cloud.all("pods", time.Now())
	for _, o := range pods {
		if pod, ok := o.(*corev1.Pod); ok && pod.Status.Phase == corev1.PodSucceeded {
			e.ended[pod.UID] = true
		}
	}
}

// now is what the machine's clock says.
func (e *edge) now() time.Time { return time.Now().Add(e.skew) }

func (e *edge) podsLocked() map[string]types.UID {
	holds := make(map[string]types.UID)
	err := e.store.List(string(wire.ResourcePods)+"/", func(o store.Object) bool {
		var pod corev1.Pod
		if err := pod.Unmarshal(o.Value); err != nil {
			e.t.Errorf("%s: %v", o.Key, err)
		}
		holds[o.Key] = pod.UID
		e.ledger.holds(&pod)
		return true
	})
	if err != nil {
		e.t.Errorf("list pods: %v", err)
	}
	return holds
}

// woken is told what has changed. A pod that goes from the store is killed: that
// must not happen to one that the API wants here.
func (e *edge) woken(key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.acted, key)
	if !strings.HasPrefix(key, string(wire.ResourcePods)+"/") {
		return
	}
	before, held := e.holds[key]
	pod, err := e.objects.Pod(key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		delete(e.holds, key)
	case err != nil:
		e.t.Errorf("%s: %v", key, err)
		return
	default:
		e.ledger.holds(pod)
		if e.holds[key] = pod.UID; pod.UID == before {
			return
		}
	}
	if !held {
		return
	}
	_, namespace, name, _, _ := wire.SplitKey(key)
	now, ok := e.cloud.get(id{"pods", namespace, name}).(*corev1.Pod)
	if ok && now.UID == before && wanted(now) {
		e.t.Errorf("pod %s, %s, was taken from the edge, and the API wants it there", name, before)
	}
}

// pods gives those that the edge holds, in order of their names.
func (e *edge) pods() []*corev1.Pod {
	pods, err := e.objects.Pods()
	if err != nil && !errors.Is(err, desired.ErrNeverSynced) {
		e.t.Errorf("pods of the edge: %v", err)
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods
}

// keys gives those of the store, in order.
func (e *edge) keys() (keys []string) {
	if err := e.store.Versions("", func(entry store.Entry) bool { keys = append(keys, entry.Key); return true }); err != nil {
		e.t.Errorf("keys of the store: %v", err)
	}
	slices.Sort(keys)
	return keys
}

// act has workers bring what is stored a step further, all of it as far as it will
// come, or some. Nothing else happens meanwhile.
func (e *edge) act(all bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, key := range e.keys() {
		if !all && e.rng.IntN(2) == 0 {
			continue
		}
		step := wire.LastStep(key)
		if step != wire.StepRunning {
			e.steps.Object(key)
			e.acted[key] = step
			continue
		}
		if !all && e.rng.IntN(2) == 0 {
			step = wire.StepApplied
		}
		pod, err := e.objects.Pod(key)
		if err != nil {
			e.t.Errorf("%s: %v", key, err)
			continue
		}
		e.steps.Pod(pod, step)
		e.acted[key] = max(e.acted[key], step)
	}
}

// behind counts what the store holds, and what of it has not come to each step.
func (e *edge) behind() (objects, unapplied, unrunning int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	keys := e.keys()
	for _, key := range keys {
		if e.acted[key] < wire.StepApplied {
			unapplied++
		}
		if e.acted[key] < wire.LastStep(key) {
			unrunning++
		}
	}
	return len(keys), unapplied, unrunning
}

// status has the worker of a pod report.
func (e *edge) status(pod *corev1.Pod, phase corev1.PodPhase) {
	if e.ended[pod.UID] {
		return
	}
	e.ended[pod.UID] = phase != corev1.PodRunning
	n := e.ledger.next()
	failed := e.reporter.Stats().Failed
	now := metav1.NewTime(e.now())
	e.reporter.PodStatus(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Status: corev1.PodStatus{
			Phase: phase, Message: message(pod.UID, n), ObservedGeneration: pod.Generation, PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.0.0.%d", n%250)}}, StartTime: &now,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, Reason: fmt.Sprint(n), LastTransitionTime: now}},
		},
	})
	stored := e.reporter.Stats().Failed == failed
	e.refused[pod.UID] = !stored
	e.ledger.statuses[pod.UID] = append(e.ledger.statuses[pod.UID], saying{n: n, phase: phase, sure: e.powered() && stored})
}

// insist says that statuses which the disk did not take must have come: there has been
// room for a while.
func (e *edge) insist() {
	for uid, refused := range e.refused {
		if all := e.ledger.statuses[uid]; refused {
			all[len(all)-1].sure = true
		}
	}
}

// event has the worker of a pod say something: a new event, or the last once more.
func (e *edge) event(pod *corev1.Pod) {
	name := fmt.Sprintf("%s.%d", pod.UID, e.rng.IntN(5))
	all := e.ledger.events[name]
	now := e.now()
	s := saying{n: len(all) + 1, at: now}
	first := now
	if len(all) > 0 {
		first = all[0].at
	}
	failed := e.reporter.Stats().Failed
	e.reporter.Event(&corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: pod.Namespace, Name: name},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Reason:         "Said", Message: fmt.Sprint(s.n), Count: int32(s.n),
		FirstTimestamp: metav1.NewTime(first), LastTimestamp: metav1.NewTime(now),
	})
	stored := e.reporter.Stats().Failed == failed
	if !stored {
		e.dropped++
	}
	s.sure = e.powered() && stored
	e.ledger.events[name] = append(all, s)
}

// bury ends the pods that are to be deleted: the last status, then the end.
func (e *edge) bury() {
	for _, pod := range e.pods() {
		if pod.DeletionTimestamp == nil || e.gone[pod.UID] {
			continue
		}
		e.status(pod, corev1.PodSucceeded)
		e.reporter.PodGone(pod.Namespace, pod.Name, pod.UID)
		e.gone[pod.UID] = true
	}
}

// has gives what the edge holds, in the terms of want.
func (e *edge) has() map[string]string {
	e.t.Helper()
	has := make(map[string]string)
	if err := e.store.Versions("", func(entry store.Entry) bool {
		text, err := e.read(entry.Key)
		if err != nil {
			e.t.Errorf("%s: %v", entry.Key, err)
		}
		has[entry.Key] = text
		return true
	}); err != nil {
		e.t.Fatal(err)
	}
	return has
}

func (e *edge) read(key string) (string, error) {
	resource, namespace, name, id, _ := wire.SplitKey(key)
	switch resource {
	case wire.ResourcePods:
		pod, err := e.objects.Pod(key)
		if err != nil {
			return "", err
		}
		return podText(pod), nil
	case wire.ResourceConfigMaps:
		o, err := e.objects.ConfigMap(namespace, name)
		return textOf(o, err)
	case wire.ResourceSecrets:
		o, err := e.objects.Secret(namespace, name)
		return textOf(o, err)
	case wire.ResourceClaims:
		o, err := e.objects.PersistentVolumeClaim(namespace, name)
		return textOf(o, err)
	case wire.ResourceVolumes:
		o, err := e.objects.PersistentVolume(name)
		return textOf(o, err)
	case wire.ResourceRuntimeClasses:
		stored, err := e.store.Get(key)
		if err != nil {
			return "", err
		}
		var o nodev1.RuntimeClass
		return textOf(&o, o.Unmarshal(stored.Value))
	case wire.ResourceNodes:
		o, err := e.objects.Node(name)
		if err != nil {
			return "", err
		}
		return nodeText(o), nil
	case wire.ResourceServiceLinks:
		list, err := e.objects.ServiceLinks(name)
		if err != nil {
			return "", err
		}
		return linksText(list.Items), nil
	case wire.ResourceTokens:
		tr, err := e.objects.Token(namespace, name, id)
		if err != nil {
			return "", err
		}
		if !tr.Status.ExpirationTimestamp.After(time.Now()) {
			return "expired", nil
		}
		return tr.Status.Token, nil
	default:
		return "", fmt.Errorf("nobody wants a %s here", resource)
	}
}

func textOf(o object, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return text(o), nil
}
