package edgeagent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/eviction"
	"github.com/skerry-io/skerry/edgeagent/images"
	"github.com/skerry-io/skerry/edgeagent/pods"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
	"github.com/skerry-io/skerry/edgeagent/pods/demand"
	"github.com/skerry-io/skerry/edgeagent/report"
	"github.com/skerry-io/skerry/edgeagent/stats"
)

// declaredFeatures are what clusters ask a node about before they send it pods that
// use them; a kubelet knows them as feature gates.
func declaredFeatures() []string { return []string{"InPlacePodLevelResourcesVerticalScaling"} }

// reserved is how much of a capacity is kept from pods: what the configuration
// reserves, and what hard thresholds of eviction would have them end for.
func (a *Agent) reserved() func(corev1.ResourceName, int64) int64 {
	thresholds, err := a.cfg.Thresholds()
	if err != nil {
		thresholds = eviction.DefaultHard() // the configuration has been checked
	}
	return func(name corev1.ResourceName, capacity int64) int64 {
		kept := demand.Amount(name, a.cfg.Reserved(string(name)))
		switch name {
		case corev1.ResourceMemory:
			kept += eviction.Reserved(thresholds, eviction.MemoryAvailable, capacity)
		case corev1.ResourceEphemeralStorage:
			kept += eviction.Reserved(thresholds, eviction.NodeFSAvailable, capacity)
		default:
		}
		return kept
	}
}

// enforced is what the control group of all pods is bounded to; empty when nothing
// is reserved.
func (a *Agent) enforced() corev1.ResourceList {
	if !a.cfg.Enforces() || len(a.cfg.SystemReserved)+len(a.cfg.KubeReserved) == 0 {
		return nil
	}
	rest := func(name corev1.ResourceName, all resource.Quantity) resource.Quantity {
		all.Sub(a.cfg.Reserved(string(name)))
		return all
	}
	all := machine()
	out := corev1.ResourceList{
		corev1.ResourceCPU:    rest(corev1.ResourceCPU, all[corev1.ResourceCPU]),
		corev1.ResourceMemory: rest(corev1.ResourceMemory, all[corev1.ResourceMemory]),
	}
	if kept := a.cfg.Reserved(string(pods.ResourcePIDs)); !kept.IsZero() {
		out[pods.ResourcePIDs] = rest(pods.ResourcePIDs, all[pods.ResourcePIDs])
	}
	return out
}

// machine is what reservations are made of.
func machine() corev1.ResourceList {
	all := pods.MeasureNode()
	all[pods.ResourcePIDs] = pods.MeasurePIDs()
	return all
}

// bounds is what judges how much there is, and for whom.
type bounds struct {
	able  *abilities
	short *eviction.Manager // asked only when all runs
}

// pressures are those that the node is under.
func (b *bounds) pressures() []corev1.NodeConditionType { return b.short.Conditions() }

// watch makes who measures the machine and its pods, and who ends pods when it
// runs short.
func (a *Agent) watch(on machineParts, mgr *pods.Manager, rep *report.Reporter, images *images.Collector, b *bounds) (*stats.Collector, error) {
	measure, err := stats.New(stats.Config{
		NodeName: a.cfg.NodeName, Version: a.cfg.Version, Runtime: on.client, Groups: on.groups,
		DataDir: a.cfg.StateDir, LogsDir: a.cfg.PodLogsDir, Log: a.log,
	})
	if err != nil {
		return nil, err
	}
	thresholds, err := a.cfg.Thresholds()
	if err != nil {
		return nil, err
	}
	transition, err := a.cfg.PressureTransition()
	if err != nil {
		return nil, err
	}
	b.short, err = eviction.New(eviction.Config{
		Pods:        evictable{mgr},
		Usage:       usage(mgr, measure),
		Thresholds:  thresholds,
		Transition:  transition,
		MaxPodGrace: time.Duration(a.cfg.EvictionMaxPodGracePeriod) * time.Second,
		DataDir:     a.cfg.StateDir,
		ImageDir:    nodeImageDir(on.client),
		NodeEvent:   rep.NodeEvent,
		Reclaim:     eviction.Reclaimer{Images: images.DeleteUnused, Containers: mgr.DeleteDead},
		Log:         a.log,
	})
	return measure, err
}

// evictable shows the pods to eviction.
type evictable struct{ *pods.Manager }

var _ eviction.Pods = evictable{}

// Evict implements eviction.Pods.
func (e evictable) Evict(uid types.UID, reason, message string, grace *time.Duration, disruption string) bool {
	return e.End(uid, pods.End{Reason: reason, Message: message, Grace: grace, Condition: disruption})
}

// usage measures pods and their volumes.
func usage(mgr *pods.Manager, measure *stats.Collector) func(context.Context, []*corev1.Pod, bool) (map[types.UID]*eviction.Usage, error) {
	return func(ctx context.Context, list []*corev1.Pod, volumes bool) (map[types.UID]*eviction.Usage, error) {
		uses, err := measure.PodUses(ctx)
		if err != nil {
			return nil, err
		}
		out := make(map[types.UID]*eviction.Usage, len(list))
		for _, pod := range list {
			at := slices.IndexFunc(uses, func(u stats.PodUse) bool { return u.UID == string(pod.UID) })
			if at < 0 {
				continue
			}
			u := &eviction.Usage{Memory: uses[at].Memory, Processes: uses[at].Processes, Volumes: map[string]eviction.DiskUsage{}}
			for _, c := range uses[at].Containers {
				u.Containers = append(u.Containers, eviction.ContainerUsage{
					Name: c.Name, Memory: c.Memory, Rootfs: eviction.DiskUsage(c.Rootfs), Logs: eviction.DiskUsage(c.Logs),
				})
			}
			if volumes {
				for name, d := range mgr.EmptyDirUsage(ctx, pod) {
					u.Volumes[name] = eviction.DiskUsage(d)
				}
			}
			out[pod.UID] = u
		}
		return out, nil
	}
}

// asked is the runtime as the look at the node needs it; *cri.Client is one.
type asked interface {
	Version(ctx context.Context) (cri.Version, error)
	Health(ctx context.Context) (cri.Health, error)
	CgroupDriver(ctx context.Context) (string, error)
}

// abilities are what the runtime can do, as it last said.
type abilities struct {
	client asked
	driver driverWatch

	mu   sync.Mutex  // guards the following fields
	last *cri.Health // nil until it has answered once
}

func newAbilities(client asked, driver cgroups.Driver) *abilities {
	return &abilities{client: client, driver: driverWatch{ours: driver}}
}

// version gives name and version of the runtime, and an error while it can't run
// pods. It must not be called twice at a time.
func (a *abilities) version(ctx context.Context) (string, error) {
	v, err := a.client.Version(ctx)
	if err != nil {
		a.driver.next = time.Time{} // it may come back with another configuration
		return "", err
	}
	health, err := a.client.Health(ctx)
	if err == nil {
		a.mu.Lock()
		a.last = &health
		a.mu.Unlock()
		err = errors.Join(unready(health), a.driver.changed(ctx, a.client))
	}
	return v.Name + "://" + v.Version, err
}

// handlers gives what the Node shows of it; nil while nobody knows.
func (a *abilities) handlers() ([]corev1.NodeRuntimeHandler, *corev1.NodeFeatures) {
	a.mu.Lock()
	h := a.last
	a.mu.Unlock()
	if h == nil {
		return nil, nil
	}
	var out []corev1.NodeRuntimeHandler
	for _, r := range h.Handlers {
		out = append(out, corev1.NodeRuntimeHandler{Name: r.Name, Features: &corev1.NodeRuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: &r.RecursiveReadOnly, UserNamespaces: &r.UserNamespaces,
		}})
	}
	slices.SortFunc(out, func(a, b corev1.NodeRuntimeHandler) int { return cmp.Compare(a.Name, b.Name) })
	return out, &corev1.NodeFeatures{SupplementalGroupsPolicy: &h.StrictGroups}
}
