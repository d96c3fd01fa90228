package pods

import (
	"bufio"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
	"github.com/skerry-io/skerry/edgeagent/pods/demand"
)

const (
	minShares   = 2
	maxShares   = 262144
	sharesOfCPU = 1024
	cpuPeriod   = 100000 // microseconds: the kernel's default
	minQuota    = 1000   // the kernel refuses less

	oomGuaranteed = -997
	oomBestEffort = 1000
)

// sharesOf gives the weight of so many thousandths of a CPU. Who asks for nothing and
// has a limit counts by that.
func sharesOf(request, limit int64) int64 {
	if request == 0 {
		request = limit
	}
	return min(max(request*sharesOfCPU/1000, minShares), maxShares)
}

// quotaOf gives the time per cpuPeriod, zero without a limit.
func quotaOf(limit int64) int64 {
	if limit == 0 {
		return 0
	}
	return max(limit*cpuPeriod/1000, minQuota)
}

// containerLimits are the limits of a container; what it has none of is limited as
// the pod is.
func containerLimits(pod *corev1.Pod, c *corev1.Container) corev1.ResourceList {
	if pod.Spec.Resources == nil || len(pod.Spec.Resources.Limits) == 0 {
		return c.Resources.Limits
	}
	out := pod.Spec.Resources.Limits.DeepCopy()
	maps.Copy(out, c.Resources.Limits)
	return out
}

// containerResources are the settings of a container's own cgroup.
func (e *env) containerResources(pod *corev1.Pod, c *corev1.Container) cri.Resources {
	a := amountsOf(pod, c)
	out := cri.Resources{
		CPUShares: sharesOf(a.CPURequest, a.CPULimit), MemoryLimit: a.MemoryLimit,
		OOMScoreAdj: e.oomScoreAdj(pod, c),
	}
	if quota := quotaOf(a.CPULimit); quota != 0 {
		out.CPUQuota, out.CPUPeriod = quota, cpuPeriod
	}
	out.HugePages = e.hugePages(containerLimits(pod, c))
	return out
}

// hugePages are the limits of each size that the node has: what is not asked for is
// not given.
func (e *env) hugePages(limits corev1.ResourceList) map[string]uint64 {
	var out map[string]uint64
	for name := range e.Capacity() {
		if !demand.HugePages(name) {
			continue
		}
		if out == nil {
			out = map[string]uint64{}
		}
		q := limits[name]
		out[pageSize(name)] = uint64(max(q.Value(), 0))
	}
	return out
}

// pageSize is how the kernel's control groups name a size, such as 2MB.
func pageSize(name corev1.ResourceName) string {
	q, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err != nil {
		return ""
	}
	n, unit := q.Value(), 0
	units := []string{"B", "KB", "MB", "GB"}
	for n >= 1024 && n%1024 == 0 && unit < len(units)-1 {
		n, unit = n/1024, unit+1
	}
	return strconv.FormatInt(n, 10) + units[unit]
}

// oomScoreAdj makes the kernel kill first who uses most beyond what it asked for:
// guaranteed pods last, best-effort pods first, others by the share of the node's
// memory that they requested. A sidecar goes no sooner than what it serves.
func (e *env) oomScoreAdj(pod *corev1.Pod, c *corev1.Container) int64 {
	if demand.NodeCritical(pod) {
		return oomGuaranteed
	}
	switch qosClass(pod) {
	case corev1.PodQOSGuaranteed:
		return oomGuaranteed
	case corev1.PodQOSBestEffort:
		return oomBestEffort
	case corev1.PodQOSBurstable:
	}
	have := e.Capacity()
	capacity := have.Memory().Value()
	if capacity <= 0 {
		return oomBestEffort - 1
	}
	rest := unclaimedMemory(pod)
	score := 1000 - 1000*(c.Resources.Requests.Memory().Value()+rest)/capacity
	if sidecar(c) && isInit(pod, c.Name) && len(pod.Spec.Containers) > 0 {
		least := pod.Spec.Containers[0].Resources.Requests.Memory().Value()
		for i := range pod.Spec.Containers {
			least = min(least, pod.Spec.Containers[i].Resources.Requests.Memory().Value())
		}
		score = min(score, 1000-1000*(least+rest)/capacity)
	}
	// Within the range that is worse than guaranteed and better than best effort.
	return min(max(score, 1000+oomGuaranteed), oomBestEffort-1)
}

func isInit(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
}

// unclaimedMemory is each container's part of what the pod requests as a whole and
// none of its containers does.
func unclaimedMemory(pod *corev1.Pod) int64 {
	if pod.Spec.Resources == nil || len(pod.Spec.Resources.Requests) == 0 {
		return 0
	}
	whole := pod.Spec.Resources.Requests.Memory().Value()
	count := int64(0)
	eachResizable(pod, func(c *corev1.Container) {
		count++
		whole -= c.Resources.Requests.Memory().Value()
	})
	if whole <= 0 || count == 0 {
		return 0
	}
	return whole / count
}

// podLimits are the settings of the pod's own group.
func (e *env) podLimits(pod *corev1.Pod) cgroups.Limits {
	a := groupAmounts(pod)
	l := cgroups.Limits{CPUShares: sharesOf(a.CPURequest, 0), MemoryLimit: a.MemoryLimit, PIDs: e.PodPidsLimit}
	if quota := quotaOf(a.CPULimit); quota != 0 {
		l.CPUQuota, l.CPUPeriod = quota, cpuPeriod
	}
	l.HugePages = e.hugePages(demand.Limits(pod))
	return l
}

// podResources tells runtimes that size virtual machines what is coming, and
// overhead what of it is the runtime's own.
func (e *env) podResources(pod *corev1.Pod) *cri.Resources {
	l := e.podLimits(pod)
	return &cri.Resources{CPUShares: l.CPUShares, CPUQuota: l.CPUQuota, CPUPeriod: l.CPUPeriod, MemoryLimit: l.MemoryLimit}
}

// shareBurstable weighs burstable pods as one by what they request together, and
// best-effort pods as little as can be, against guaranteed ones.
func (e *env) shareBurstable() error {
	burstable := cgroups.Limits{CPUShares: sharesOf(e.ledger.burstableCPU(), 0)}
	if err := e.Cgroups.Ensure(e.Groups.Group(qosCgroup(corev1.PodQOSBurstable)), burstable); err != nil {
		return err
	}
	return e.Cgroups.Ensure(e.Groups.Group(qosCgroup(corev1.PodQOSBestEffort)), cgroups.Limits{CPUShares: minShares})
}

// enforce bounds all pods together, and what former agents have bounded no longer:
// their group lives on with the pods in it. Where that can't be, pods run all the
// same.
func (e *env) enforce() {
	l := cgroups.Limits{CPUShares: cgroups.Unbounded, MemoryLimit: cgroups.Unbounded, PIDs: cgroups.Unbounded}
	for name, q := range e.Enforce {
		switch name {
		case corev1.ResourceCPU:
			l.CPUShares = sharesOf(q.MilliValue(), 0)
		case corev1.ResourceMemory:
			l.MemoryLimit = q.Value()
		case ResourcePIDs:
			l.PIDs = q.Value()
		default:
		}
	}
	if err := e.Cgroups.Ensure(e.Groups.Group(), l); err != nil {
		e.Log.Warn("what is reserved is not kept from pods", "error", err)
	}
}

// cgroupPath is the pod's parent group, as the kubelet names it.
func (e *env) cgroupPath(pod *corev1.Pod) string {
	return e.Groups.Pod(qosCgroup(qosClass(pod)), string(pod.UID))
}

// group makes the pod's group, in that of its class, with its limits.
func (e *env) group(pod *corev1.Pod) error {
	if err := e.shareBurstable(); err != nil {
		return err
	}
	return e.Cgroups.Ensure(e.cgroupPath(pod), e.podLimits(pod))
}

// regroup makes the pod's group where there is none: the runtime was given another
// driver since the sandbox was made, and what starts in it now comes to be elsewhere.
func (e *env) regroup(pod *corev1.Pod) error {
	if e.Cgroups.Has(e.cgroupPath(pod)) {
		return nil
	}
	return e.group(pod)
}

// layouts are how groups are called, and how a former agent called them if the runtime
// had another driver.
func (e *env) layouts() []cgroups.Layout {
	return []cgroups.Layout{e.Groups, e.Groups.Other()}
}

func qosCgroup(c corev1.PodQOSClass) string {
	switch c {
	case corev1.PodQOSBurstable:
		return cgroups.Burstable
	case corev1.PodQOSBestEffort:
		return cgroups.BestEffort
	default:
		return ""
	}
}

// removeCgroups removes the group of a pod whose class nobody remembers.
func (e *env) removeCgroups(uid string) error {
	var groups []string
	for _, l := range e.layouts() {
		for _, class := range cgroups.Classes() {
			groups = append(groups, l.Pod(class, uid))
		}
	}
	return e.Cgroups.Remove(groups...)
}

// ResourcePIDs is the kubelet's name of process ids, which can be reserved.
const ResourcePIDs corev1.ResourceName = "pid"

// MeasurePIDs is how many processes and threads the machine can have.
func MeasurePIDs() resource.Quantity {
	most := int64(0)
	for _, file := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil && (most == 0 || n < most) {
			most = n
		}
	}
	return *resource.NewQuantity(most, resource.DecimalSI)
}

// MeasureNode is the node's CPUs and memory, the default of Config.Allocatable.
func MeasureNode() corev1.ResourceList {
	out := corev1.ResourceList{corev1.ResourceCPU: *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI)}
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return out
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		rest, ok := strings.CutPrefix(s.Text(), "MemTotal:")
		if !ok {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err == nil {
			out[corev1.ResourceMemory] = *resource.NewQuantity(kb<<10, resource.BinarySI)
		}
		break
	}
	return out
}
