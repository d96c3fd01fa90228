package pods

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// machine has 16 GiB and huge pages of one size.
func machine() *env {
	all := corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("16Gi"), "hugepages-2Mi": resource.MustParse("64Mi")}
	e := &env{Config: Config{Capacity: func() corev1.ResourceList { return all }, Allocatable: func() corev1.ResourceList { return all }, PodPidsLimit: 100}}
	e.ledger = newLedger(ledgerConfig{})
	return e
}

func TestOOMScoreAdj(t *testing.T) {
	requests := func(q string) func(*corev1.Pod) { return requesting(amount("memory", q)) }
	side := func(q string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			inits("~side")(p)
			p.Spec.InitContainers[0].Resources.Requests = amount("memory", q)
		}
	}
	whole := func(q string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Resources = &corev1.ResourceRequirements{Requests: amount("memory", q)} }
	}
	for _, tt := range []struct {
		name      string
		pod       *corev1.Pod
		container string
		want      int64
	}{
		{"best effort", newPod("p"), "c", 1000},
		{"guaranteed", newPod("p", sized("1", "1", "1Gi", "1Gi")), "c", -997},
		{"a quarter of the machine", newPod("p", requests("4Gi")), "c", 750},
		{"next to nothing", newPod("p", requests("1Mi")), "c", 999},
		{"all of it", newPod("p", requests("16Gi")), "c", 3},
		{"critical for the node", newPod("p", func(p *corev1.Pod) {
			p.Spec.Priority, p.Spec.PriorityClassName = new(int32(2000001000)), "system-node-critical"
		}), "c", -997},
		{"critical for the cluster", newPod("p", func(p *corev1.Pod) {
			p.Spec.Priority, p.Spec.PriorityClassName = new(int32(2000000000)), "system-cluster-critical"
		}), "c", 1000},
		{"a small sidecar of a large container", newPod("p", requests("4Gi"), side("1Gi")), "side", 750},
		{"a large sidecar", newPod("p", requests("1Gi"), side("4Gi")), "side", 750},
		{"a part of the pod's", newPod("p", whole("8Gi"), twoApps), "d", 750},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := machine().oomScoreAdj(tt.pod, findContainer(tt.pod, tt.container)); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestContainerResources(t *testing.T) {
	none := map[string]uint64{"2MB": 0}
	for _, tt := range []struct {
		name string
		pod  *corev1.Pod
		want cri.Resources
	}{
		{"nothing", newPod("p"), cri.Resources{CPUShares: 2, OOMScoreAdj: 1000, HugePages: none}},
		{
			"both", newPod("p", sized("250m", "500m", "64Mi", "128Mi")),
			cri.Resources{CPUShares: 256, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 128 << 20, OOMScoreAdj: 997, HugePages: none},
		},
		{"a limit counts as request", newPod("p", sized("", "2", "", "")), cri.Resources{CPUShares: 2048, CPUQuota: 200000, CPUPeriod: 100000, OOMScoreAdj: 999, HugePages: none}},
		{"as little as can be", newPod("p", sized("1m", "1m", "", "")), cri.Resources{CPUShares: 2, CPUQuota: 1000, CPUPeriod: 100000, OOMScoreAdj: 999, HugePages: none}},
		{
			"huge pages", newPod("p", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Limits = amount("hugepages-2Mi", "4Mi") }),
			cri.Resources{CPUShares: 2, OOMScoreAdj: 1000, HugePages: map[string]uint64{"2MB": 4 << 20}},
		},
		{
			"the pod's own limit", newPod("p", func(p *corev1.Pod) {
				p.Spec.Resources = &corev1.ResourceRequirements{Limits: amount("memory", "1Gi"), Requests: amount("memory", "0")}
			}), cri.Resources{CPUShares: 2, MemoryLimit: 1 << 30, OOMScoreAdj: 999, HugePages: none},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, machine().containerResources(tt.pod, &tt.pod.Spec.Containers[0])); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPodLimits(t *testing.T) {
	none := map[string]uint64{"2MB": 0}
	for _, tt := range []struct {
		name string
		pod  *corev1.Pod
		want cgroups.Limits
	}{
		{"best effort", newPod("p"), cgroups.Limits{CPUShares: 2, PIDs: 100, HugePages: none}},
		{
			"one of two is limited", newPod("p", sized("1", "1", "64Mi", "64Mi"), twoApps),
			cgroups.Limits{CPUShares: 1024, PIDs: 100, HugePages: none},
		},
		{
			"overhead", newPod("p", sized("1", "1", "64Mi", "64Mi"), func(p *corev1.Pod) {
				p.Spec.Overhead = corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("64Mi")}
			}), cgroups.Limits{CPUShares: 1536, CPUQuota: 150000, CPUPeriod: 100000, MemoryLimit: 128 << 20, PIDs: 100, HugePages: none},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, machine().podLimits(tt.pod)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPageSize(t *testing.T) {
	for name, want := range map[corev1.ResourceName]string{"hugepages-2Mi": "2MB", "hugepages-1Gi": "1GB", "hugepages-64Ki": "64KB", "hugepages-512Mi": "512MB"} {
		if got := pageSize(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// limited notes what a group is limited to, at last.
type limited struct {
	noCgroups
	mu sync.Mutex // guards the following field
	at map[string]cgroups.Limits
}

func (l *limited) Ensure(path string, to cgroups.Limits) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	is := l.at[path]
	for _, f := range []struct {
		is *int64
		to int64
	}{{&is.CPUShares, to.CPUShares}, {&is.CPUQuota, to.CPUQuota}, {&is.CPUPeriod, to.CPUPeriod}, {&is.MemoryLimit, to.MemoryLimit}, {&is.PIDs, to.PIDs}} {
		if f.to != 0 { // which leaves what is there
			*f.is = f.to
		}
	}
	l.at[path] = is
	return nil
}

func (l *limited) Has(path string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.at[path]
	return ok
}

// TestRegroup: a container that starts in a sandbox from before the runtime was given
// another driver finds the pod's limits where it comes to be.
func TestRegroup(t *testing.T) {
	const group = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poduid_p.slice"
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{rt: newFakeRuntime(), objects: newObjects(newPod("p", sized("100m", "200m", "64Mi", "128Mi"))), rec: newRecorder()}
		b.run(t, dir, func() { pass(time.Second) })
		l := &limited{at: map[string]cgroups.Limits{}}
		b.change = func(c *Config) { c.Cgroups, c.Groups.Driver, c.PodPidsLimit = l, cgroups.Systemd, 77 }
		b.run(t, dir, func() {
			pass(time.Second)
			if l.Has(group) {
				t.Error("made for nobody")
			}
			b.rt.exit(b.rt.containers[0].ID, 1)
			pass(20 * time.Second)
			want := cgroups.Limits{CPUShares: 102, CPUQuota: 20000, CPUPeriod: 100000, MemoryLimit: 128 << 20, PIDs: 77}
			if d := cmp.Diff(want, l.at[group]); d != "" || strings.Count(b.rt.log(), "sandbox p") != 1 {
				t.Errorf("(-want +got):\n%s\n%s", d, b.rt.log())
			}
		})
	})
}

// TestEnforce: what is not reserved any longer is given back, since the group lives
// on with its pods.
func TestEnforce(t *testing.T) {
	for _, tt := range []struct {
		name    string
		enforce corev1.ResourceList
		want    cgroups.Limits
	}{
		{"nothing", nil, cgroups.Limits{CPUShares: -1, MemoryLimit: -1, PIDs: -1}},
		{"cpu and memory", corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("1Gi")}, cgroups.Limits{CPUShares: 2048, MemoryLimit: 1 << 30, PIDs: -1}},
		{"processes", corev1.ResourceList{"pid": resource.MustParse("1k")}, cgroups.Limits{CPUShares: -1, MemoryLimit: -1, PIDs: 1000}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, l := machine(), &limited{at: map[string]cgroups.Limits{}}
			e.Cgroups, e.Groups.Root, e.Enforce = l, "/skerry", tt.enforce
			e.enforce()
			if d := cmp.Diff(tt.want, l.at["/skerry"]); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
