package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// KubernetesVersion is the release whose kubelet this agent follows.
const KubernetesVersion = "v1.37.2"

const (
	// nodeInterval is how often the node is looked at; kubelets do so as often.
	nodeInterval = 10 * time.Second
	// imagesInterval is how often the runtime is asked for its images. Only the
	// scheduler's taste depends on them.
	imagesInterval = time.Minute
	// wordsInterval is how often a status is sent of which nothing changed but the
	// words of a condition: an error may hold a time or a number.
	wordsInterval = 5 * time.Minute
)

// NodeConfig says where the node's status comes from.
type NodeConfig struct {
	// Name is the node's name. Required.
	Name string
	// Runtime gives name and version of the container runtime, such as
	// "containerd://1.6.20". While it fails the node is not ready. Nil means a
	// runtime that is always there and has no name.
	Runtime func(ctx context.Context) (string, error)
	// Images gives the runtime's images, in any order. Nil means that none are shown.
	Images func(ctx context.Context) ([]corev1.ContainerImage, error)
	// Pressures gives those that the node is under, such as MemoryPressure. Nil means
	// none.
	Pressures func() []corev1.NodeConditionType
	// Reserved is how much of a capacity is kept from pods. Nil means nothing.
	Reserved func(name corev1.ResourceName, capacity int64) int64
	// Handlers gives what the runtime's handlers, and the runtime as a whole, can do,
	// as it was last known. May be nil.
	Handlers func() ([]corev1.NodeRuntimeHandler, *corev1.NodeFeatures)
	// Features are what else the node declares that it can do.
	Features []string
	// Full tells that the store takes nothing any more for want of room on the disk,
	// and since when. Nil means that nobody knows.
	Full func() (full bool, since time.Time)
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

	looking sync.Mutex // held while status runs; guards the following fields: what was seen before
	runtime string     // name and version
	storage uint64     // capacity
	images  []corev1.ContainerImage
	listed  time.Time // when images was

	mu        sync.Mutex // guards the following fields
	last      *corev1.NodeStatus
	lastAt    time.Time              // when it was put
	resources [2]corev1.ResourceList // capacity and what is allocatable of it; nobody changes them
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
	last, at := n.last, n.lastAt
	n.mu.Unlock()
	now := time.Now()
	if last != nil && (sameStatus(last, status, withoutHeartbeats) || now.Sub(at) < wordsInterval && sameStatus(last, status, withoutWords)) {
		return
	}
	if err := n.put(status); err != nil {
		n.log.Error("node status can't be stored", "error", err)
		return
	}
	n.mu.Lock()
	n.last, n.lastAt = status, now
	n.mu.Unlock()
}

// sameStatus compares what less leaves of two statuses.
func sameStatus(a, b *corev1.NodeStatus, less func(*corev1.NodeStatus) *corev1.NodeStatus) bool {
	x, errX := less(a).Marshal()
	y, errY := less(b).Marshal()
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// withoutHeartbeats: the lease is the heartbeat.
func withoutHeartbeats(s *corev1.NodeStatus) *corev1.NodeStatus {
	s = s.DeepCopy()
	for i := range s.Conditions {
		s.Conditions[i].LastHeartbeatTime = metav1.Time{}
	}
	return s
}

func withoutWords(s *corev1.NodeStatus) *corev1.NodeStatus {
	s = withoutHeartbeats(s)
	for i := range s.Conditions {
		s.Conditions[i].Message = ""
	}
	return s
}
