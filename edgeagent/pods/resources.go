package pods

import (
	"bufio"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
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

func cpuShares(q *resource.Quantity) int64 {
	return min(max(q.MilliValue()*sharesOfCPU/1000, minShares), maxShares)
}

func cpuQuota(limit *resource.Quantity) (quota, period int64) {
	if limit.IsZero() {
		return 0, 0
	}
	return max(limit.MilliValue()*cpuPeriod/1000, minQuota), cpuPeriod
}

// containerResources are the settings of a container's own cgroup.
func (e *env) containerResources(pod *corev1.Pod, c *corev1.Container) cri.Resources {
	req, ok := c.Resources.Requests[corev1.ResourceCPU]
	limit := c.Resources.Limits[corev1.ResourceCPU]
	if !ok || req.IsZero() {
		req = limit
	}
	quota, period := cpuQuota(&limit)
	mem := c.Resources.Limits[corev1.ResourceMemory]
	return cri.Resources{
		CPUShares: cpuShares(&req), CPUQuota: quota, CPUPeriod: period,
		MemoryLimit: mem.Value(),
		OOMScoreAdj: e.oomScoreAdj(pod, c),
	}
}

// oomScoreAdj makes the kernel kill first who uses most beyond what it asked
// for: guaranteed pods last, best-effort pods first, others by the share of the
// node's memory they requested.
func (e *env) oomScoreAdj(pod *corev1.Pod, c *corev1.Container) int64 {
	switch qosClass(pod) {
	case corev1.PodQOSGuaranteed:
		return oomGuaranteed
	case corev1.PodQOSBestEffort:
		return oomBestEffort
	case corev1.PodQOSBurstable:
	}
	allocatable := e.Allocatable()
	capacity := allocatable.Memory().Value()
	if capacity <= 0 {
		return oomBestEffort - 1
	}
	req := c.Resources.Requests[corev1.ResourceMemory]
	// Within the range that is worse than guaranteed and better than best effort.
	return min(max(1000-1000*req.Value()/capacity, 1000+oomGuaranteed), oomBestEffort-1)
}

// podTotals sums what the pod's containers ask for and may use at the same
// time. limited says that every container has the limit.
func podTotals(pod *corev1.Pod, name corev1.ResourceName) (request, limit resource.Quantity, limited bool) {
	limited = true
	add := func(c *corev1.Container) {
		req, lim := c.Resources.Requests[name], c.Resources.Limits[name]
		if req.IsZero() {
			req = lim
		}
		request.Add(req)
		limit.Add(lim)
		limited = limited && !lim.IsZero()
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; sidecar(c) {
			add(c)
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if sidecar(c) {
			continue
		}
		req, lim := c.Resources.Requests[name], c.Resources.Limits[name]
		if req.Cmp(request) > 0 {
			request = req.DeepCopy()
		}
		if lim.IsZero() {
			limited = false
		} else if lim.Cmp(limit) > 0 {
			limit = lim.DeepCopy()
		}
	}
	if r := pod.Spec.Resources; r != nil {
		if q := r.Requests[name]; !q.IsZero() {
			request = q
		}
		if q := r.Limits[name]; !q.IsZero() {
			limit, limited = q, true
		}
	}
	for _, q := range []*resource.Quantity{&request, &limit} {
		if o := pod.Spec.Overhead[name]; !q.IsZero() {
			q.Add(o)
		}
	}
	return request, limit, limited
}

func podLimits(pod *corev1.Pod) cgroups.Limits {
	var l cgroups.Limits
	cpu, cpuLimit, limited := podTotals(pod, corev1.ResourceCPU)
	l.CPUShares = cpuShares(&cpu)
	if limited {
		l.CPUQuota, l.CPUPeriod = cpuQuota(&cpuLimit)
	}
	if _, mem, limited := podTotals(pod, corev1.ResourceMemory); limited {
		l.MemoryLimit = mem.Value()
	}
	return l
}

// podResources tells runtimes that size virtual machines what is coming.
func podResources(pod *corev1.Pod) *cri.Resources {
	l := podLimits(pod)
	return &cri.Resources{CPUShares: l.CPUShares, CPUQuota: l.CPUQuota, CPUPeriod: l.CPUPeriod, MemoryLimit: l.MemoryLimit}
}

// cgroupPath is the pod's parent group, as the kubelet names it.
func (e *env) cgroupPath(pod *corev1.Pod) string {
	return path.Join("/", e.CgroupRoot, qosCgroup(qosClass(pod)), "pod"+string(pod.UID))
}

func qosCgroup(c corev1.PodQOSClass) string {
	switch c {
	case corev1.PodQOSBurstable:
		return "burstable"
	case corev1.PodQOSBestEffort:
		return "besteffort"
	default:
		return ""
	}
}

// removeCgroups removes the group of a pod whose class nobody remembers.
func (e *env) removeCgroups(uid string) error {
	for _, qos := range []string{"", "burstable", "besteffort"} {
		if err := e.Cgroups.Remove(path.Join("/", e.CgroupRoot, qos, "pod"+uid)); err != nil {
			return err
		}
	}
	return nil
}

// measureNode is the node's CPUs and memory, the default of Config.Allocatable.
func measureNode() corev1.ResourceList {
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
