package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// KubernetesVersion is the release whose kubelet this agent follows.
const KubernetesVersion = "v1.37.2"

const (
	// nodeInterval is how often the node is looked at; kubelets do so as often.
	nodeInterval = 10 * time.Second
	// Thresholds of pressure, those at which kubelets begin to evict.
	minMemoryAvailable = 100 << 20
	minDiskShare       = 0.10
	maxPIDShare        = 0.90
)

// NodeConfig says where the node's status comes from.
type NodeConfig struct {
	// Name is the node's name. Required.
	Name string
	// Runtime gives name and version of the container runtime, such as
	// "containerd://1.6.20". While it fails the node is not ready. Nil means a
	// runtime that is always there and has no name.
	Runtime func(ctx context.Context) (string, error)
	// Addresses gives the edge's own addresses. The cloud shows its proxy's address
	// on the Node, so these are for people. May be nil.
	Addresses func() []corev1.NodeAddress
	// Version is the agent's own version; KubernetesVersion-skerry is put before it.
	Version string
	// DataDir is on the file system that ephemeral-storage is about; empty means /.
	DataDir string
	// MaxPods is the node's capacity; zero means 110.
	MaxPods int64
	// Root is the host's file system, of which /proc, /etc and /sys are read; nil
	// means the machine's own.
	Root fs.FS
	// Disk gives total and available bytes of the file system of a path; nil means
	// statfs.
	Disk func(path string) (total, available uint64, err error)
}

func (c NodeConfig) fill() (NodeConfig, error) {
	if c.Name == "" {
		return c, errors.New("report config: Node.Name is required")
	}
	if c.DataDir == "" {
		c.DataDir = "/"
	}
	if c.MaxPods == 0 {
		c.MaxPods = 110
	}
	if c.Root == nil {
		c.Root = os.DirFS("/")
	}
	if c.Disk == nil {
		c.Disk = statfs
	}
	return c, nil
}

func statfs(path string) (total, available uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("statfs %s: %w", path, err)
	}
	size := uint64(st.Bsize)
	return st.Blocks * size, st.Bavail * size, nil
}

// nodeReporter puts the node's status into the outbox when it changed.
type nodeReporter struct {
	cfg   NodeConfig
	put   func(*corev1.NodeStatus) error
	log   *slog.Logger
	again chan struct{} // capacity 1: put it also if nothing changed

	mu   sync.Mutex // guards the following fields
	last *corev1.NodeStatus
}

// resend puts the status once more.
func (n *nodeReporter) resend() {
	n.mu.Lock()
	n.last = nil
	n.mu.Unlock()
	select {
	case n.again <- struct{}{}:
	default:
	}
}

func (n *nodeReporter) run(ctx context.Context) {
	ticker := time.NewTicker(nodeInterval)
	defer ticker.Stop()
	// Conditions keep their transition time through the life of the agent.
	var before []corev1.NodeCondition
	for {
		status := n.status(ctx, time.Now(), before)
		before = status.Conditions
		n.report(status)
		select {
		case <-ticker.C:
		case <-n.again:
		case <-ctx.Done():
			return
		}
	}
}

func (n *nodeReporter) report(status *corev1.NodeStatus) {
	n.mu.Lock()
	last := n.last
	n.mu.Unlock()
	if last != nil && sameStatus(last, status) {
		return
	}
	if err := n.put(status); err != nil {
		n.log.Error("node status can't be stored", "error", err)
		return
	}
	n.mu.Lock()
	n.last = status
	n.mu.Unlock()
}

// sameStatus compares all but heartbeat times: the lease is the heartbeat.
func sameStatus(a, b *corev1.NodeStatus) bool {
	x, errX := withoutHeartbeats(a).Marshal()
	y, errY := withoutHeartbeats(b).Marshal()
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func withoutHeartbeats(s *corev1.NodeStatus) *corev1.NodeStatus {
	s = s.DeepCopy()
	for i := range s.Conditions {
		s.Conditions[i].LastHeartbeatTime = metav1.Time{}
	}
	return s
}

func (n *nodeReporter) status(ctx context.Context, now time.Time, before []corev1.NodeCondition) *corev1.NodeStatus {
	runtimeVersion, runtimeErr := "", error(nil)
	if n.cfg.Runtime != nil {
		runtimeVersion, runtimeErr = n.cfg.Runtime(ctx)
	}
	memory := n.meminfo()
	total, available, diskErr := n.cfg.Disk(n.cfg.DataDir)
	if diskErr != nil {
		n.log.Warn("disk can't be measured", "error", diskErr)
	}
	s := &corev1.NodeStatus{
		Capacity: corev1.ResourceList{
			corev1.ResourceCPU:              *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
			corev1.ResourceMemory:           *bytesQuantity(memory["MemTotal"]),
			corev1.ResourcePods:             *resource.NewQuantity(n.cfg.MaxPods, resource.DecimalSI),
			corev1.ResourceEphemeralStorage: *bytesQuantity(total),
		},
		NodeInfo: corev1.NodeSystemInfo{
			MachineID:               n.text("etc/machine-id"),
			SystemUUID:              n.text("sys/class/dmi/id/product_uuid"),
			BootID:                  n.text("proc/sys/kernel/random/boot_id"),
			KernelVersion:           n.text("proc/sys/kernel/osrelease"),
			OSImage:                 n.osImage(),
			ContainerRuntimeVersion: runtimeVersion,
			KubeletVersion:          strings.TrimSuffix(KubernetesVersion+"-skerry."+n.cfg.Version, "."),
			OperatingSystem:         runtime.GOOS,
			Architecture:            runtime.GOARCH,
		},
	}
	if n.cfg.Addresses != nil {
		s.Addresses = n.cfg.Addresses()
	}
	// What evictions would keep free is not for pods.
	s.Allocatable = s.Capacity.DeepCopy()
	s.Allocatable[corev1.ResourceMemory] = *bytesQuantity(memory["MemTotal"] - min(minMemoryAvailable, memory["MemTotal"]))
	s.Allocatable[corev1.ResourceEphemeralStorage] = *bytesQuantity(total - total/10)

	used, most := n.processes()
	low := memory["MemTotal"] > 0 && memory["MemAvailable"] < minMemoryAvailable
	full := diskErr == nil && float64(available) < minDiskShare*float64(total)
	crowded := most > 0 && float64(used) > maxPIDShare*float64(most)
	s.Conditions = []corev1.NodeCondition{
		pressure(corev1.NodeMemoryPressure, low, "InsufficientMemory", "SufficientMemory", "too little memory available", "sufficient memory available"),
		pressure(corev1.NodeDiskPressure, full, "DiskPressure", "NoDiskPressure", "disk pressure", "no disk pressure"),
		pressure(corev1.NodePIDPressure, crowded, "InsufficientPID", "SufficientPID", "too few PIDs available", "sufficient PIDs available"),
		ready(runtimeErr),
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		c.LastHeartbeatTime = metav1.NewTime(now)
		c.LastTransitionTime = c.LastHeartbeatTime
		for _, b := range before {
			if b.Type == c.Type && b.Status == c.Status {
				c.LastTransitionTime = b.LastTransitionTime
			}
		}
	}
	return s
}

func pressure(t corev1.NodeConditionType, is bool, bad, good, low, enough string) corev1.NodeCondition {
	if is {
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: "KubeletHas" + bad, Message: "edge has " + low}
	}
	return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: "KubeletHas" + good, Message: "edge has " + enough}
}

func ready(runtimeErr error) corev1.NodeCondition {
	if runtimeErr != nil {
		return corev1.NodeCondition{
			Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady",
			Message: "container runtime is not ready: " + runtimeErr.Error(),
		}
	}
	return corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "edgeagent is posting ready status",
	}
}

func bytesQuantity(n uint64) *resource.Quantity {
	return resource.NewQuantity(int64(min(n, math.MaxInt64)), resource.BinarySI)
}

func (n *nodeReporter) text(path string) string {
	b, err := fs.ReadFile(n.cfg.Root, path)
	if err != nil {
		return "" // not every machine has every file
	}
	return strings.TrimSpace(string(b))
}

// meminfo gives the fields of /proc/meminfo in bytes.
func (n *nodeReporter) meminfo() map[string]uint64 {
	m := make(map[string]uint64)
	for line := range strings.Lines(n.text("proc/meminfo")) {
		name, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		v, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			continue
		}
		if len(fields) > 1 && fields[1] == "kB" {
			v <<= 10
		}
		m[name] = v
	}
	return m
}

func (n *nodeReporter) osImage() string {
	for line := range strings.Lines(n.text("etc/os-release")) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return runtime.GOOS
}

// processes gives how many there are and may be.
func (n *nodeReporter) processes() (used, most uint64) {
	// 0.00 0.01 0.05 1/123 4567: the fourth field is running/existing.
	if fields := strings.Fields(n.text("proc/loadavg")); len(fields) > 3 {
		_, total, _ := strings.Cut(fields[3], "/")
		used, _ = strconv.ParseUint(total, 10, 64) // zero means unknown, as below
	}
	most, _ = strconv.ParseUint(n.text("proc/sys/kernel/pid_max"), 10, 64)
	return used, most
}
