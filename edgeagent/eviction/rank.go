package eviction

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/demand"
)

// Usage is what a pod uses.
type Usage struct {
	Memory     int64 // the working set
	Processes  int64
	Containers []ContainerUsage
	// Volumes are those on the node's disk, by name.
	Volumes map[string]DiskUsage
}

// ContainerUsage is what a container uses.
type ContainerUsage struct {
	Name         string
	Memory       int64
	Rootfs, Logs DiskUsage
}

// DiskUsage is what something takes on a disk.
type DiskUsage struct{ Bytes, Inodes int64 }

func (d DiskUsage) plus(e DiskUsage) DiskUsage {
	return DiskUsage{d.Bytes + e.Bytes, d.Inodes + e.Inodes}
}

// disk sums what a pod has on the file systems that a signal is about.
func (u *Usage) disk(s Signal, dedicated bool) (sum DiskUsage) {
	images := s == ImageFSAvailable || s == ImageFSInodes
	for i := range u.Containers {
		if images || !dedicated {
			sum = sum.plus(u.Containers[i].Rootfs)
		}
		if !images || !dedicated {
			sum = sum.plus(u.Containers[i].Logs)
		}
	}
	if !images || !dedicated {
		for _, v := range u.Volumes {
			sum = sum.plus(v)
		}
	}
	return sum
}

// rank orders pods, the one to end first in front. A pod that could not be measured
// is in front of others.
func rank(pods []*corev1.Pod, used map[types.UID]*Usage, s Signal, dedicated bool) {
	over := func(p *corev1.Pod) int64 {
		u, asked := used[p.UID], demand.Requests(p)
		switch s {
		case MemoryAvailable:
			return u.Memory - asked.Memory().Value()
		case NodeFSInodes, ImageFSInodes:
			return u.disk(s, dedicated).Inodes
		case PIDAvailable:
			return u.Processes
		default:
			return u.disk(s, dedicated).Bytes - asked.StorageEphemeral().Value()
		}
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		if used[a.UID] == nil || used[b.UID] == nil {
			return first(used[a.UID] == nil, used[b.UID] == nil)
		}
		exceeds := 0
		if s != PIDAvailable {
			exceeds = first(over(a) > 0, over(b) > 0)
		}
		return cmp.Or(exceeds, cmp.Compare(demand.Priority(a), demand.Priority(b)), cmp.Compare(over(b), over(a)))
	})
}

// first puts what is so before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

// message tells why a pod was chosen, in the kubelet's words.
func message(t Threshold, pod *corev1.Pod, u *Usage, sample Sample) string {
	what := t.Signal.resource()
	var b strings.Builder
	fmt.Fprintf(&b, "The node was low on resource: %v. ", what)
	if o, ok := sample[t.Signal]; ok {
		fmt.Fprintf(&b, "Threshold quantity: %v, available: %v. ", quantity(t.Signal, t.Value.of(o.Capacity)), quantity(t.Signal, o.Available))
	}
	if u == nil || what != corev1.ResourceMemory && what != corev1.ResourceEphemeralStorage {
		return b.String()
	}
	if r := pod.Spec.Resources; r != nil && what == corev1.ResourceMemory {
		if q, ok := r.Requests[what]; ok {
			fmt.Fprintf(&b, "Pod %s was using %s, request is %s, has larger consumption of %v. ", pod.Name, quantity(t.Signal, u.Memory), q.String(), what)
		}
	}
	containers := slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers)
	for i := range u.Containers {
		c := &u.Containers[i]
		at := slices.IndexFunc(containers, func(spec corev1.Container) bool { return spec.Name == c.Name })
		if at < 0 {
			continue
		}
		request, using := containers[at].Resources.Requests[what], c.Memory
		if what == corev1.ResourceEphemeralStorage {
			using = c.Rootfs.Bytes + c.Logs.Bytes
		}
		if using > request.Value() {
			fmt.Fprintf(&b, "Container %s was using %s, request is %s, has larger consumption of %v. ", c.Name, quantity(t.Signal, using), request.String(), what)
		}
	}
	return b.String()
}

func quantity(s Signal, n int64) *resource.Quantity { return resource.NewQuantity(n, s.format()) }

// limited says whether the pod has a limit of what it may write, so that it has to
// be measured.
func limited(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; demand.OnDisk(v) && v.EmptyDir.SizeLimit != nil && v.EmptyDir.SizeLimit.Sign() > 0 {
			return true
		}
	}
	limits := demand.Limits(pod)
	return !limits.StorageEphemeral().IsZero()
}

// exceeded says which limit of its own on the node's disk the pod exceeds; empty for
// none.
func exceeded(pod *corev1.Pod, u *Usage, dedicated bool) string {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !demand.OnDisk(v) {
			continue
		}
		if size := v.EmptyDir.SizeLimit; size != nil && size.Sign() > 0 && u.Volumes[v.Name].Bytes > size.Value() {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, size.String())
		}
	}
	limits := demand.Limits(pod)
	if q, ok := limits[corev1.ResourceEphemeralStorage]; ok && !q.IsZero() {
		sum := u.disk(NodeFSAvailable, dedicated)
		if dedicated {
			sum = sum.plus(u.disk(ImageFSAvailable, dedicated))
		}
		if sum.Bytes > q.Value() {
			return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", q.String())
		}
	}
	for i := range u.Containers {
		c := &u.Containers[i]
		using := c.Logs.Bytes
		if !dedicated {
			using += c.Rootfs.Bytes
		}
		if q := containerLimit(pod, c.Name); q != nil && using > q.Value() {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, q.String())
		}
	}
	return ""
}

// containerLimit is the limit of what a container writes, nil for none.
func containerLimit(pod *corev1.Pod, name string) *resource.Quantity {
	limit := func(c *corev1.Container) *resource.Quantity {
		if q := c.Resources.Limits[corev1.ResourceEphemeralStorage]; c.Name == name && !q.IsZero() {
			return &q
		}
		return nil
	}
	for i := range pod.Spec.Containers {
		if q := limit(&pod.Spec.Containers[i]); q != nil {
			return q
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; demand.Sidecar(c) {
			if q := limit(c); q != nil {
				return q
			}
		}
	}
	return nil
}
