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
	"github.com/skerry-io/skerry/edgeagent/images"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
	"github.com/skerry-io/skerry/edgeagent/pods/userns"
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

// StaticReporter takes what the API should know of static pods, which it does not
// have. It must not block on the network.
type StaticReporter interface {
	// StaticPod publishes a static pod with a new status. Nobody changes it any more.
	StaticPod(pod *corev1.Pod)
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
	MainPID(ctx context.Context, id string) (int, error)
	UpdateResources(ctx context.Context, id string, r cri.Resources) error
	ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (cri.ExecResult, error)
	Events(ctx context.Context, notify func(podUID string)) error
}

// Cgroups makes the pods' control groups; *cgroups.Tree and *systemd.Groups are two.
type Cgroups interface {
	Ensure(path string, l cgroups.Limits) error
	Remove(paths ...string) error
	Children(path string) ([]string, error)
	Has(path string) bool
	// Memory is what a group uses.
	Memory(path string) (uint64, error)
}

// Config is what a Manager needs.
type Config struct {
	// Objects, Reporter, Events and CRI are required.
	Objects  Objects
	Reporter Reporter
	// Static may be nil: then nobody hears of static pods.
	Static StaticReporter
	Events Events
	CRI    Runtime
	// StateDir holds pods/UID. Required.
	StateDir string
	// LogsDir holds NAMESPACE_NAME_UID/CONTAINER/N.log. Empty means /var/log/pods.
	LogsDir string
	// Groups says how the pods' control groups are called; the driver must be the
	// runtime's. An empty root means /kubepods.
	Groups cgroups.Layout
	// Cgroups makes control groups. Nil finds them at /sys/fs/cgroup, and makes them as
	// the driver of Groups does.
	Cgroups Cgroups
	// Claims reads what persistentVolumeClaim volumes are bound to. Nil means that
	// there are none.
	Claims volumes.Claims
	// Bundles reads the trust bundles that volumes show. Nil means that there are none.
	Bundles volumes.Bundles
	// Certificates makes and keeps the certificates of pods that volumes show. Nil means
	// that there are none.
	Certificates volumes.Certificates
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
	// Features tells what a runtime handler can, or an error while the runtime does not
	// answer; nil, that none can more than the usual.
	Features func(ctx context.Context, handler string) (cri.HandlerFeatures, error)
	// Users are the IDs for pods that have users of their own. Nil asks the machine.
	Users func(context.Context) (userns.Span, error)
	// Keyring has the credentials for registries. Nil has only those of the pods.
	Keyring *images.Keyring
	// ParallelPulls is how many images are pulled at a time. Zero means two.
	ParallelPulls int
	// Allocatable is what the node offers to pods, the default of resourceFieldRef.
	// Nil measures CPUs and memory.
	Allocatable func() corev1.ResourceList
	// Capacity is what the machine has. Nil means what Allocatable gives.
	Capacity func() corev1.ResourceList
	// Node gives the node's labels and taints as the cloud has them, or an error while
	// nobody knows them. Nil means never.
	Node func() (*corev1.Node, error)
	// Handlers gives what the runtime's handlers, and the runtime as a whole, can do.
	// Nil means nothing beyond what every one can; features are nil while it has not
	// told them.
	Handlers func() ([]corev1.NodeRuntimeHandler, *corev1.NodeFeatures)
	// Enforce is what all pods together may use: CPU is a weight, memory and
	// ResourcePIDs are limits.
	// Empty means no bound but the machine.
	Enforce corev1.ResourceList
	// Pressures gives those that the node is under, which keep new pods away. Nil means
	// none.
	Pressures func() []corev1.NodeConditionType
	// AllowedUnsafeSysctls are names and patterns, ending in *, of sysctls that pods
	// may set beside the safe ones.
	AllowedUnsafeSysctls []string
	// PodPidsLimit is how many processes a pod may have. Zero or less means that only
	// the node's own limit counts.
	PodPidsLimit int64
	// Services reads the services that containers find in their environment. Nil
	// means that there are none.
	Services Services
	// Steps hears how far changes have come. Nil means nobody does.
	Steps Steps
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
	if c.Groups.Root == "" {
		c.Groups.Root = defaultCgroupRoot
	}
	if c.SeccompDir == "" {
		c.SeccompDir = filepath.Join(c.StateDir, "seccomp")
	}
	if c.HostIP == nil {
		c.HostIP = func() []string { return nil }
	}
	if c.Services == nil {
		c.Services = noServices{}
	}
	if c.RuntimeHandler == nil {
		c.RuntimeHandler = func(class string) (string, error) { return class, nil }
	}
	if c.Features == nil {
		c.Features = func(context.Context, string) (cri.HandlerFeatures, error) { return cri.HandlerFeatures{}, nil }
	}
	if c.Allocatable == nil {
		measured := MeasureNode()
		c.Allocatable = func() corev1.ResourceList { return measured }
	}
	if c.Capacity == nil {
		c.Capacity = c.Allocatable
	}
	if c.ResolvConf == "" {
		c.ResolvConf = findResolvConf()
	}
	if c.ParallelPulls == 0 {
		c.ParallelPulls = defaultParallelPulls
	}
	if c.Steps == nil {
		c.Steps = noSteps{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
