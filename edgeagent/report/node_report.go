package report

import (
	"cmp"
	"context"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// Bounds of what a Node says of images, a kubelet's.
	maxImages     = 50
	maxImageNames = 5
)

// status looks at the machine. What kubelets also say and this does not: volumes
// that are attached, for want of such volumes.
func (n *nodeReporter) status(ctx context.Context, now time.Time, before []corev1.NodeCondition) *corev1.NodeStatus {
	n.looking.Lock()
	defer n.looking.Unlock()
	var runtimeErr error
	if n.cfg.Runtime != nil {
		var version string
		if version, runtimeErr = n.cfg.Runtime(ctx); version != "" {
			n.runtime = version
		}
	}
	memory := n.meminfo()
	s := &corev1.NodeStatus{
		Capacity: n.capacity(memory),
		Images:   n.listImages(ctx, now),
		NodeInfo: corev1.NodeSystemInfo{
			MachineID:               n.first("etc/machine-id", "var/lib/dbus/machine-id"),
			SystemUUID:              n.first("sys/class/dmi/id/product_uuid", "proc/device-tree/system-id", "proc/device-tree/vm,uuid", "etc/machine-id"),
			BootID:                  n.text("proc/sys/kernel/random/boot_id"),
			KernelVersion:           n.text("proc/sys/kernel/osrelease"),
			OSImage:                 n.osImage(),
			ContainerRuntimeVersion: n.runtime,
			KubeletVersion:          strings.TrimSuffix(KubernetesVersion+"-skerry."+n.cfg.Version, "."),
			OperatingSystem:         runtime.GOOS,
			Architecture:            runtime.GOARCH,
		},
	}
	if swap := memory["SwapTotal"]; swap > 0 {
		capacity := int64(min(swap, math.MaxInt64))
		s.NodeInfo.Swap = &corev1.NodeSwapStatus{Capacity: &capacity}
	}
	if n.cfg.Addresses != nil {
		s.Addresses = n.cfg.Addresses()
	}
	s.Allocatable = n.allocatable(s.Capacity)
	n.mu.Lock()
	n.resources = [2]corev1.ResourceList{s.Capacity, s.Allocatable}
	n.mu.Unlock()
	s.DeclaredFeatures = n.cfg.Features
	if n.cfg.Handlers != nil {
		s.RuntimeHandlers, s.Features = n.cfg.Handlers()
	}
	s.Conditions = append(n.pressures(), ready(runtimeErr))
	if n.cfg.Full != nil {
		s.Conditions = append(s.Conditions, storeFull(n.cfg.Full()))
	}
	stamp(s.Conditions, before, now)
	return s
}

// stamp keeps the time of transition of conditions that did not change.
func stamp(conditions, before []corev1.NodeCondition, now time.Time) {
	for i := range conditions {
		c := &conditions[i]
		c.LastHeartbeatTime = metav1.NewTime(now)
		c.LastTransitionTime = c.LastHeartbeatTime
		for _, b := range before {
			if b.Type == c.Type && b.Status == c.Status {
				c.LastTransitionTime = b.LastTransitionTime
			}
		}
	}
}

func (n *nodeReporter) capacity(memory map[string]uint64) corev1.ResourceList {
	storage, _, err := n.cfg.Disk(n.cfg.DataDir)
	if err != nil {
		n.log.Warn("disk can't be measured", "path", n.cfg.DataDir, "error", err)
	}
	// There are file systems whose size moves with what is on them. A small change is
	// no news, and one that can't be measured just now has not shrunk to nothing.
	if storage > n.storage+n.storage/100 || storage > 0 && storage < n.storage-n.storage/100 {
		n.storage = storage
	}
	list := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(n.cpus(), resource.DecimalSI),
		corev1.ResourceMemory:           *bytesQuantity(memory["MemTotal"]),
		corev1.ResourcePods:             *resource.NewQuantity(n.cfg.MaxPods, resource.DecimalSI),
		corev1.ResourceEphemeralStorage: *bytesQuantity(n.storage),
	}
	for name, size := range n.hugePages() {
		list[name] = *bytesQuantity(size)
	}
	return list
}

// allocatable is capacity less what is reserved and what evictions would keep free.
// Huge pages are taken out of memory.
func (n *nodeReporter) allocatable(capacity corev1.ResourceList) corev1.ResourceList {
	list := capacity.DeepCopy()
	pages := int64(0)
	for name, q := range capacity {
		if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			pages += q.Value()
		}
		if n.cfg.Reserved == nil {
			continue
		}
		if name == corev1.ResourceCPU {
			all := q.MilliValue()
			if reserved := n.cfg.Reserved(name, all); reserved > 0 {
				list[name] = *resource.NewMilliQuantity(max(all-reserved, 0), resource.DecimalSI)
			}
			continue
		}
		if reserved := n.cfg.Reserved(name, q.Value()); reserved > 0 {
			list[name] = *resource.NewQuantity(max(q.Value()-reserved, 0), q.Format)
		}
	}
	memory := list[corev1.ResourceMemory]
	list[corev1.ResourceMemory] = *resource.NewQuantity(max(memory.Value()-pages, 0), resource.BinarySI)
	return list
}

// Resources gives the node's capacity and what of it is for pods. Nobody changes
// them.
func (r *Reporter) Resources() (capacity, allocatable corev1.ResourceList) {
	r.node.mu.Lock()
	known := r.node.resources
	r.node.mu.Unlock()
	if known[0] == nil {
		r.node.looking.Lock()
		defer r.node.looking.Unlock()
		capacity = r.node.capacity(r.node.meminfo())
		return capacity, r.node.allocatable(capacity)
	}
	return known[0], known[1]
}

// listImages gives the largest images, in an order that stays.
func (n *nodeReporter) listImages(ctx context.Context, now time.Time) []corev1.ContainerImage {
	if n.cfg.Images == nil || !n.listed.IsZero() && now.Sub(n.listed) < imagesInterval {
		return n.images
	}
	list, err := n.cfg.Images(ctx)
	if err != nil {
		n.log.Debug("images can't be listed", "error", err) // Ready tells of the runtime
		return n.images
	}
	n.listed = now
	for i := range list {
		slices.Sort(list[i].Names)
		list[i].Names = list[i].Names[:min(len(list[i].Names), maxImageNames)]
	}
	slices.SortFunc(list, func(a, b corev1.ContainerImage) int {
		return cmp.Or(cmp.Compare(b.SizeBytes, a.SizeBytes), slices.Compare(a.Names, b.Names))
	})
	n.images = list[:min(len(list), maxImages)]
	return n.images
}

func bytesQuantity(n uint64) *resource.Quantity {
	return resource.NewQuantity(int64(min(n, math.MaxInt64)), resource.BinarySI)
}
