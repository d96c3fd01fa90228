package pods

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

// ErrNotFound says that an object is not in the store of desired state. An
// implementation of Objects returns errors that wrap it.
var ErrNotFound = volumes.ErrNotFound

// Objects reads the desired state.
type Objects interface {
	volumes.Objects
	// Pod returns the pod under a key pods/NAMESPACE/NAME.
	Pod(key string) (*corev1.Pod, error)
	// Pods returns all pods of this node, or an error while they are not all known:
	// what the runtime has beside them is removed.
	Pods() ([]*corev1.Pod, error)
}

// Reporter takes what the API should know. Its methods must not block on the
// network.
type Reporter interface {
	// PodStatus publishes a new status. The pod has metadata and status only.
	PodStatus(pod *corev1.Pod)
	// PodGone says that nothing of a deleted pod is left on this node, so that
	// its API object may go.
	PodGone(namespace, name string, uid types.UID)
}

// PodRef names a pod in events.
type PodRef struct {
	Namespace, Name string
	UID             types.UID
	// FieldPath is the container that an event is about, such as
	// spec.containers{web}. Empty means the pod.
	FieldPath string
}

// Events takes events about pods. Event must not block on the network.
type Events interface {
	// Event records one event; kind is corev1.EventTypeNormal or EventTypeWarning.
	Event(ref PodRef, kind, reason, message string)
}

// Runtime is the container runtime as this package needs it; *cri.Client is one.
type Runtime interface {
	RunSandbox(ctx context.Context, cfg *cri.SandboxConfig) (string, error)
	StopSandbox(ctx context.Context, id string) error
	RemoveSandbox(ctx context.Context, id string) error
	Version(ctx context.Context) (cri.Version, error)
	ListSandboxes(ctx context.Context, labels map[string]string) ([]cri.Sandbox, error)
	SandboxStatus(ctx context.Context, id string) (cri.SandboxStatus, error)
	CreateContainer(ctx context.Context, sandboxID string, cfg *cri.ContainerConfig, sandbox *cri.SandboxConfig) (string, error)
	StartContainer(ctx context.Context, id string) error
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	RemoveContainer(ctx context.Context, id string) error
	ListContainers(ctx context.Context, labels map[string]string) ([]cri.Container, error)
	ContainerStatus(ctx context.Context, id string) (cri.ContainerStatus, error)
	ImageStatus(ctx context.Context, ref string) (cri.Image, error)
	PullImage(ctx context.Context, ref string, auth *cri.Auth, sandbox *cri.SandboxConfig) (string, error)
	ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (cri.ExecResult, error)
	Events(ctx context.Context, notify func(podUID string)) error
}

// Cgroups makes the pods' control groups; *cgroups.Tree is one.
type Cgroups interface {
	Ensure(path string, l cgroups.Limits) error
	Remove(path string) error
	Children(path string) ([]string, error)
}

// Config is what a Manager needs.
type Config struct {
	// Objects, Reporter, Events and CRI are required.
	Objects  Objects
	Reporter Reporter
	Events   Events
	CRI      Runtime
	// StateDir holds pods/UID. Required.
	StateDir string
	// LogsDir holds NAMESPACE_NAME_UID/CONTAINER/N.log. Empty means /var/log/pods.
	LogsDir string
	// CgroupRoot is the parent of all pods' control groups, such as /skerry.
	// Empty means /kubepods.
	CgroupRoot string
	// Cgroups makes control groups. Nil finds them at /sys/fs/cgroup.
	Cgroups Cgroups
	// Mounter does the mounts of volumes. Nil means the kernel's.
	Mounter volumes.Mounter
	// NodeName is this node. Required.
	NodeName string
	// HostIP returns the node's addresses, the primary first. Nil or an empty
	// answer leaves hostIP out of the status.
	HostIP func() []string
	// ClusterDNS and ClusterDomain are for pods with dnsPolicy ClusterFirst.
	// Without ClusterDNS such pods get the node's resolver.
	ClusterDNS    []string
	ClusterDomain string
	// ResolvConf is the node's resolver configuration. Empty finds it.
	ResolvConf string
	// SeccompDir holds Localhost seccomp profiles. Empty means StateDir/seccomp.
	SeccompDir string
	// RuntimeHandler resolves a RuntimeClass to the runtime's handler. Nil takes
	// the name of the class.
	RuntimeHandler func(class string) (string, error)
	// Allocatable is what the node offers to pods, the default of resourceFieldRef.
	// Nil measures CPUs and memory.
	Allocatable func() corev1.ResourceList
	// ServiceEnv returns the environment variables of the services that a pod
	// sees, such as KUBERNETES_SERVICE_HOST. Nil means none.
	ServiceEnv func(pod *corev1.Pod) []corev1.EnvVar
	// Log receives what an operator acts on. Nil discards it.
	Log *slog.Logger
}

const (
	defaultLogsDir    = "/var/log/pods"
	defaultCgroupRoot = "/kubepods"
	cgroupMount       = "/sys/fs/cgroup"
)

// fill checks what is required and returns a copy with the defaults.
func (c Config) fill() (Config, error) {
	if c.Objects == nil || c.Reporter == nil || c.Events == nil || c.CRI == nil {
		return c, errors.New("pods: Objects, Reporter, Events and CRI are required")
	}
	if c.StateDir == "" || c.NodeName == "" {
		return c, errors.New("pods: StateDir and NodeName are required")
	}
	var err error
	if c.StateDir, err = filepath.Abs(c.StateDir); err != nil {
		return c, fmt.Errorf("pods: StateDir: %w", err)
	}
	if c.LogsDir == "" {
		c.LogsDir = defaultLogsDir
	}
	if c.LogsDir, err = filepath.Abs(c.LogsDir); err != nil {
		return c, fmt.Errorf("pods: LogsDir: %w", err)
	}
	if c.CgroupRoot == "" {
		c.CgroupRoot = defaultCgroupRoot
	}
	if c.SeccompDir == "" {
		c.SeccompDir = filepath.Join(c.StateDir, "seccomp")
	}
	if c.HostIP == nil {
		c.HostIP = func() []string { return nil }
	}
	if c.ServiceEnv == nil {
		c.ServiceEnv = func(*corev1.Pod) []corev1.EnvVar { return nil }
	}
	if c.RuntimeHandler == nil {
		c.RuntimeHandler = func(class string) (string, error) { return class, nil }
	}
	if c.Allocatable == nil {
		measured := measureNode()
		c.Allocatable = func() corev1.ResourceList { return measured }
	}
	if c.ResolvConf == "" {
		c.ResolvConf = findResolvConf()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
