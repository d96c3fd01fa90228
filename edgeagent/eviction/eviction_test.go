package eviction

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   Settings
		want []Threshold
		err  string
	}{
		{name: "defaults", want: DefaultHard()},
		{
			name: "all of it",
			in: Settings{
				Hard:            map[string]string{"memory.available": "100Mi", "pid.available": "5%", "nodefs.available": "0%"},
				Soft:            map[string]string{"memory.available": "20%"},
				SoftGracePeriod: map[string]string{"memory.available": "1m30s"},
				MinimumReclaim:  map[string]string{"memory.available": "1Mi"},
			},
			want: []Threshold{
				{Signal: MemoryAvailable, Value: Value{Amount: 100 << 20}, Reclaim: Value{Amount: 1 << 20}},
				{Signal: PIDAvailable, Value: Value{Share: 0.05}},
				{Signal: MemoryAvailable, Value: Value{Share: 0.2}, Grace: 90 * time.Second, Reclaim: Value{Amount: 1 << 20}},
			},
		},
		{name: "signal", in: Settings{Hard: map[string]string{"memory": "1"}}, err: `evictionHard: "memory" is not a signal`},
		{name: "value", in: Settings{Hard: map[string]string{"nodefs.available": "lots"}}, err: `evictionHard: nodefs.available: "lots" is neither a quantity nor a percentage`},
		{name: "percent", in: Settings{Hard: map[string]string{"nodefs.available": "101%"}}, err: `evictionHard: nodefs.available: "101%" is not between 0% and 100%`},
		{name: "no grace", in: Settings{Soft: map[string]string{"nodefs.available": "10%"}}, err: "evictionSoftGracePeriod: has no nodefs.available, which is in evictionSoft"},
		{name: "grace of nothing", in: Settings{SoftGracePeriod: map[string]string{"nodefs.available": "1m"}}, err: "evictionSoftGracePeriod: nodefs.available is not in evictionSoft"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.in)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReserved(t *testing.T) {
	for capacity, want := range map[int64]int64{128 << 20: 128 << 20 / 10, 4 << 30: 100 << 20} {
		if got := Reserved(DefaultHard(), MemoryAvailable, capacity); got != want {
			t.Errorf("of %d bytes %d are kept, want %d", capacity, got, want)
		}
	}
}

func TestState(t *testing.T) {
	s := newState([]Threshold{
		{Signal: NodeFSAvailable, Value: Value{Share: 0.1}, Reclaim: Value{Amount: 5}},
		{Signal: MemoryAvailable, Value: Value{Amount: 10}},
		{Signal: MemoryAvailable, Value: Value{Amount: 20}, Grace: time.Minute},
		{Signal: PIDAvailable, Value: Value{Share: 0.1}},
	}, 5*time.Minute)
	began := time.Unix(1000, 0)
	for _, step := range []struct {
		at                 time.Duration
		memory, disk, pids int64
		due, conditions    string
	}{
		{0, 50, 50, 50, "", "[]"},
		{10 * time.Second, 15, 50, 50, "", "[MemoryPressure]"}, // soft
		{60 * time.Second, 15, 50, 50, "", "[MemoryPressure]"},
		{70 * time.Second, 15, 50, 50, "memory.available/20", "[MemoryPressure]"},
		{80 * time.Second, 25, 50, 50, "", "[MemoryPressure]"}, // resolved, still told
		{90 * time.Second, 15, 50, 50, "", "[MemoryPressure]"}, // its grace begins anew
		{100 * time.Second, 5, 5, 5, "memory.available/10 nodefs.available/0 pid.available/0", "[MemoryPressure DiskPressure PIDPressure]"},
		{110 * time.Second, 50, 12, 50, "nodefs.available/0", "[MemoryPressure DiskPressure PIDPressure]"}, // minimum reclaim
		{120 * time.Second, 50, 15, 50, "", "[MemoryPressure DiskPressure PIDPressure]"},
		{130 * time.Second, 50, 12, 50, "", "[MemoryPressure DiskPressure PIDPressure]"}, // above the threshold itself
		{400*time.Second - 1, 50, 50, 50, "", "[MemoryPressure DiskPressure PIDPressure]"},
		{400 * time.Second, 50, 50, 50, "", "[DiskPressure]"},
		{410 * time.Second, 50, 50, 50, "", "[]"},
	} {
		sample := Sample{MemoryAvailable: {step.memory, 100}, NodeFSAvailable: {step.disk, 100}, PIDAvailable: {step.pids, 100}}
		var due []string
		for _, d := range s.step(began.Add(step.at), sample) {
			due = append(due, fmt.Sprintf("%s/%d", d.Signal, d.Value.Amount))
		}
		if got := strings.Join(due, " "); got != step.due {
			t.Errorf("after %v: due %q, want %q", step.at, got, step.due)
		}
		if got := fmt.Sprint(s.conditions(began.Add(step.at))); got != step.conditions {
			t.Errorf("after %v: conditions %s, want %s", step.at, got, step.conditions)
		}
	}
}

func newPod(name string, priority int32, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec:       corev1.PodSpec{Priority: &priority, Containers: []corev1.Container{{Name: "c"}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func requests(name corev1.ResourceName, q string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{name: resource.MustParse(q)}
	}
}

func TestRank(t *testing.T) {
	pods := []*corev1.Pod{
		newPod("within", 0, requests("memory", "1Gi")), newPod("most", 0), newPod("less", 0),
		newPod("important", 10), newPod("unknown", 100), newPod("many", 0),
	}
	used := map[types.UID]*Usage{
		"within":    {Memory: 900 << 20, Processes: 1, Containers: []ContainerUsage{{Name: "c", Rootfs: DiskUsage{5, 1}}}},
		"most":      {Memory: 500 << 20, Processes: 2, Volumes: map[string]DiskUsage{"v": {1, 50}}},
		"less":      {Memory: 400 << 20, Processes: 3, Containers: []ContainerUsage{{Name: "c", Logs: DiskUsage{30, 1}}}},
		"important": {Memory: 800 << 20, Processes: 900},
		"many":      {Memory: 1 << 20, Processes: 500, Containers: []ContainerUsage{{Name: "c", Rootfs: DiskUsage{20, 2}}}},
	}
	for s, want := range map[Signal]string{
		MemoryAvailable:  "unknown most less many important within",
		PIDAvailable:     "unknown many less most within important",
		NodeFSAvailable:  "unknown less most within many important",
		ImageFSAvailable: "unknown many within most less important",
		NodeFSInodes:     "unknown most less within many important",
	} {
		list := slices.Clone(pods)
		rank(list, used, s, true)
		var names []string
		for _, p := range list {
			names = append(names, p.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", s, got, want)
		}
	}
}

func TestExceeded(t *testing.T) {
	dir := func(limit string, medium corev1.StorageMedium) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			q := resource.MustParse(limit)
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &q, Medium: medium}}}}
		}
	}
	limit := func(q string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"ephemeral-storage": resource.MustParse(q)}
		}
	}
	u := &Usage{
		Volumes:    map[string]DiskUsage{"v": {Bytes: 3 << 20}},
		Containers: []ContainerUsage{{Name: "c", Logs: DiskUsage{Bytes: 1 << 20}, Rootfs: DiskUsage{Bytes: 1 << 20}}},
	}
	for _, tt := range []struct {
		name string
		pod  *corev1.Pod
		want string
	}{
		{"no limit", newPod("p", 0), ""},
		{"volume", newPod("p", 0, dir("2Mi", "")), `Usage of EmptyDir volume "v" exceeds the limit "2Mi". `},
		{"volume within", newPod("p", 0, dir("3Mi", "")), ""},
		{"volume in memory", newPod("p", 0, dir("2Mi", corev1.StorageMediumMemory)), ""},
		{"pod", newPod("p", 0, limit("4Mi")), "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. "},
		{"within", newPod("p", 0, limit("5Mi")), ""},
		{
			"container", newPod("p", 0, limit("1Mi"), func(p *corev1.Pod) {
				other := corev1.Container{Name: "d"}
				other.Resources.Limits = corev1.ResourceList{"ephemeral-storage": resource.MustParse("1Gi")}
				p.Spec.Containers = append(p.Spec.Containers, other)
			}), `Container c exceeded its local ephemeral storage limit "1Mi". `,
		},
	} {
		if got := exceeded(tt.pod, u, false); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if limited(tt.pod) != (tt.name != "no limit" && tt.name != "volume in memory") {
			t.Errorf("%s: limited is %v", tt.name, limited(tt.pod))
		}
	}
}

// world is a machine with pods.
type world struct {
	mu      sync.Mutex
	memory  int64 // MiB of 1000
	disk    uint64
	pods    []*corev1.Pod
	used    map[types.UID]*Usage
	frees   map[types.UID]int64 // MiB of memory that come back
	log     []string
	start   time.Time
	samples int
	walks   time.Duration // what it takes to measure volumes
}

func (w *world) Active() []*corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.pods)
}

func (w *world) Evict(uid types.UID, reason, message string, grace *time.Duration, disruption string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf("%v %s %s %v %v: %s", time.Since(w.start), reason, uid, *grace, disruption == message, message))
	w.pods = slices.DeleteFunc(w.pods, func(p *corev1.Pod) bool { return p.UID == uid })
	// Between two looks, so that it is certain which one sees it.
	time.AfterFunc(2500*time.Millisecond, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.memory += w.frees[uid]
		delete(w.used, uid)
	})
	return true
}

func (w *world) Ended(uid types.UID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.used[uid] == nil
}

// meminfo is the /proc of a world.
type meminfo struct{ w *world }

func (m meminfo) Open(name string) (fs.File, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	text := fmt.Sprintf("MemTotal: 1024000 kB\nMemAvailable: %d kB\n", m.w.memory<<10)
	return fstest.MapFS{"proc/meminfo": {Data: []byte(text)}}.Open(name)
}

func (w *world) run(t *testing.T, cfg Config, body func(m *Manager)) {
	t.Helper()
	w.start = time.Now()
	cfg.Root = meminfo{w}
	cfg.Pods, cfg.Disk = w, func(string) (Disk, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.samples++
		return Disk{Total: 1000, Available: w.disk, Device: 1}, nil
	}
	cfg.Usage = func(_ context.Context, _ []*corev1.Pod, volumes bool) (map[types.UID]*Usage, error) {
		if volumes {
			<-time.After(w.walks)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if volumes {
			w.log = append(w.log, "measure pods and volumes")
		} else {
			w.log = append(w.log, "measure pods")
		}
		return w.used, nil
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = m.Run(ctx)
	}()
	synctest.Wait()
	body(m)
	cancel()
	<-ended
}

func (w *world) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.log, "\n")
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestEvictsOneAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			memory: 500, disk: 500,
			pods:  []*corev1.Pod{newPod("critical", 2000000000), newPod("small", 0), newPod("big", 0)},
			used:  map[types.UID]*Usage{"critical": {Memory: 700 << 20}, "small": {Memory: 100 << 20}, "big": {Memory: 300 << 20, Containers: []ContainerUsage{{Name: "c", Memory: 300 << 20}}}},
			frees: map[types.UID]int64{"small": 30, "big": 40},
		}
		thresholds, err := Parse(Settings{Hard: map[string]string{"memory.available": "100Mi"}})
		if err != nil {
			t.Fatal(err)
		}
		w.run(t, Config{Thresholds: thresholds}, func(m *Manager) {
			pass(time.Minute)
			if w.text() != "" {
				t.Errorf("with enough of all:\n%s", w.text())
			}
			w.mu.Lock()
			w.memory = 50
			w.start = time.Now()
			w.mu.Unlock()
			pass(time.Minute)
			want := strings.Join([]string{
				"measure pods",
				"10s Evicted big 1s true: The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using 300Mi, request is 0, has larger consumption of memory. ",
				"measure pods",
				"13s Evicted small 1s true: The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. ",
			}, "\n")
			if diff := cmp.Diff(want, w.text()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := m.Conditions(); !slices.Equal(got, []corev1.NodeConditionType{corev1.NodeMemoryPressure}) {
				t.Errorf("conditions %v", got)
			}
			pass(10 * time.Minute)
			if got := m.Conditions(); len(got) > 0 {
				t.Errorf("conditions %v", got)
			}
		})
	})
}

func TestReclaimsBeforeItEvicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{memory: 500, disk: 50, pods: []*corev1.Pod{newPod("p", 0)}, used: map[types.UID]*Usage{"p": {}}}
		var reclaimed []string
		give := func(what string, n uint64) func(context.Context) error {
			return func(context.Context) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				reclaimed = append(reclaimed, what)
				w.disk += n
				return nil
			}
		}
		var events []string
		cfg := Config{
			Thresholds: DefaultHard(), Reclaim: Reclaimer{Containers: give("containers", 10), Images: give("images", 100)},
			NodeEvent: func(kind, reason, message string) { events = append(events, kind+" "+reason+" "+message) },
		}
		w.run(t, cfg, func(*Manager) {
			pass(30 * time.Second)
			if got := strings.Join(reclaimed, " "); got != "containers images" || w.text() != "" {
				t.Errorf("reclaimed %s, then\n%s", got, w.text())
			}
			if len(events) != 1 || events[0] != "Warning EvictionThresholdMet Attempting to reclaim ephemeral-storage" {
				t.Errorf("events %v", events)
			}
		})
	})
}

// A machine without memory does not wait for who walks through volumes.
func TestLimitsTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := resource.MustParse("1Mi")
		large := newPod("large", 0)
		large.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}}}
		w := &world{
			memory: 500, disk: 500, walks: 5 * time.Minute, pods: []*corev1.Pod{newPod("greedy", 0), large},
			used: map[types.UID]*Usage{"large": {}, "greedy": {Memory: 400 << 20}}, frees: map[types.UID]int64{"greedy": 400},
		}
		w.run(t, Config{Thresholds: DefaultHard()}, func(*Manager) {
			pass(15 * time.Second)
			w.mu.Lock()
			w.memory = 10
			w.mu.Unlock()
			pass(15 * time.Second)
			if !strings.Contains(w.text(), "20s Evicted greedy") {
				t.Errorf("got\n%s", w.text())
			}
			pass(5 * time.Minute)
		})
	})
}

func TestLimitsOfPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := resource.MustParse("1Mi")
		limitedPod := newPod("limited", 0)
		limitedPod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}}}
		w := &world{
			memory: 500, disk: 500, pods: []*corev1.Pod{newPod("other", 0), limitedPod},
			used: map[types.UID]*Usage{"limited": {}, "other": {}},
		}
		w.run(t, Config{Thresholds: DefaultHard()}, func(*Manager) {
			pass(30 * time.Second)
			w.mu.Lock()
			w.used["limited"] = &Usage{Volumes: map[string]DiskUsage{"v": {Bytes: 2 << 20}}}
			w.mu.Unlock()
			pass(time.Minute)
			want := "measure pods and volumes\nmeasure pods and volumes\n1m0s Evicted limited 1s false: Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "
			if diff := cmp.Diff(want, w.text()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			pass(time.Hour)
			if got := strings.Count(w.text(), "measure pods"); got != 2 {
				t.Errorf("pods without a limit are measured %d times", got)
			}
		})
	})
}
