package cri

import "time"

// ContainerState is the runtime's view of a container.
type ContainerState int

// The states of a container.
const (
	StateUnknown ContainerState = iota
	StateCreated
	StateRunning
	StateExited
)

// String returns the state as crictl prints it.
func (s ContainerState) String() string {
	switch s {
	case StateCreated:
		return "Created"
	case StateRunning:
		return "Running"
	case StateExited:
		return "Exited"
	default:
		return "Unknown"
	}
}

// Sandbox is a pod's shell in the runtime: its namespaces and cgroup parent.
type Sandbox struct {
	ID                   string
	Name, Namespace, UID string
	Attempt              uint32
	Ready                bool
	CreatedAt            time.Time
	Labels, Annotations  map[string]string
	RuntimeHandler       string
}

// SandboxStatus is a Sandbox with what only a status call tells.
type SandboxStatus struct {
	Sandbox
	// IPs are the pod's addresses, the primary first. Empty with host network.
	IPs []string
	// HostNetwork says that the sandbox shares the node's network namespace.
	HostNetwork bool
}

// Container is one line of a list.
type Container struct {
	ID, SandboxID       string
	Name                string
	Attempt             uint32
	State               ContainerState
	Image, ImageRef     string
	ImageID             string // empty with runtimes that do not tell
	CreatedAt           time.Time
	Labels, Annotations map[string]string
}

// ContainerStatus is all the runtime knows of one container.
type ContainerStatus struct {
	ID                               string
	Name                             string
	Attempt                          uint32
	State                            ContainerState
	CreatedAt, StartedAt, FinishedAt time.Time
	ExitCode                         int32
	Reason, Message                  string
	// Image is the name it was made from, ImageRef the digest it resolved to.
	Image, ImageRef     string
	LogPath             string
	Labels, Annotations map[string]string
	Mounts              []Mount
	// StopSignal is what ends it, such as SIGUSR1; empty where the runtime does not
	// say, and then it knows no other than the image's.
	StopSignal string
	// User is whose its first process is; nil where the runtime does not say.
	User *User
}

// User is the identity of a process.
type User struct {
	UID, GID           int64
	SupplementalGroups []int64
}

// Image is one image in the runtime's store.
type Image struct {
	ID          string
	Tags        []string
	Digests     []string
	SizeBytes   uint64
	UID         *int64
	Username    string
	Pinned      bool
	Annotations map[string]string
}

// Auth is what a registry wants to see. Empty means anonymous.
type Auth struct {
	Username, Password, Auth string
	ServerAddress            string
	IdentityToken            string
	RegistryToken            string
}

// NamespaceMode says whose namespace a pod or container uses.
type NamespaceMode int

// The namespace modes.
const (
	NamespacePod NamespaceMode = iota
	NamespaceContainer
	NamespaceNode
	NamespaceTarget
)

// Namespaces are the namespace options of a sandbox or container.
type Namespaces struct {
	Network, PID, IPC NamespaceMode
	// TargetID is the container whose PID namespace NamespaceTarget joins.
	TargetID string
	// Users are the pod's own; nil means the machine's. A container has its sandbox's.
	Users *Users
}

// Users are users and groups of a pod's own: there are Count, from 0 inside and from
// First on the machine. The owners of files that are mounted are those inside.
type Users struct{ First, Count uint32 }

// Protocol is the transport of a port mapping.
type Protocol int

// The protocols.
const (
	TCP Protocol = iota
	UDP
	SCTP
)

// PortMapping publishes a container's port on the host.
type PortMapping struct {
	Protocol                Protocol
	ContainerPort, HostPort int32
	HostIP                  string
}

// DNSConfig is what the runtime writes to resolv.conf.
type DNSConfig struct {
	Servers, Searches, Options []string
}

// ProfileType is the kind of a seccomp or AppArmor profile.
type ProfileType int

// The profile types.
const (
	ProfileRuntimeDefault ProfileType = iota
	ProfileUnconfined
	ProfileLocalhost
)

// Profile is a seccomp or AppArmor profile.
type Profile struct {
	Type ProfileType
	// Localhost is the file (seccomp) or profile name (AppArmor) for ProfileLocalhost.
	Localhost string
}

// SandboxConfig describes the sandbox to run.
type SandboxConfig struct {
	Name, Namespace, UID string
	Attempt              uint32
	Hostname             string
	LogDirectory         string
	DNS                  *DNSConfig
	Ports                []PortMapping
	Labels, Annotations  map[string]string
	// RuntimeHandler picks the runtime by RuntimeClass. Empty means the default.
	RuntimeHandler string

	CgroupParent       string
	Sysctls            map[string]string
	Namespaces         Namespaces
	Privileged         bool
	RunAsUser          *int64
	RunAsGroup         *int64
	SupplementalGroups []int64
	Seccomp            *Profile
	Overhead           *Resources
	Resources          *Resources
}

// Propagation is the mount propagation of a volume.
type Propagation int

// The propagation modes.
const (
	PropagationPrivate Propagation = iota
	PropagationHostToContainer
	PropagationBidirectional
)

// Mount binds a host path, or the content of an image, into a container.
type Mount struct {
	// Image is the reference that the runtime resolved, UserImage the name in the pod;
	// with them HostPath is empty. ImageSubPath is the part of the image to mount.
	Image, UserImage, ImageSubPath string

	ContainerPath, HostPath string
	ReadOnly                bool
	RecursiveReadOnly       bool
	Propagation             Propagation
}

// Device gives a host device to a container.
type Device struct {
	ContainerPath, HostPath, Permissions string
}

// EnvVar is one resolved environment variable.
type EnvVar struct{ Name, Value string }

// Resources are the cgroup settings of a container or sandbox. Zero leaves the
// runtime's default.
type Resources struct {
	CPUPeriod, CPUQuota, CPUShares int64
	MemoryLimit                    int64
	OOMScoreAdj                    int64
	// HugePages are limits in bytes by size of page, such as 2MB; here zero means none.
	HugePages map[string]uint64
	// Unified are cgroup v2 files set as they are.
	Unified map[string]string
}

// Security is the security context of a container.
type Security struct {
	Privileged                 bool
	AddCapabilities            []string
	DropCapabilities           []string
	Namespaces                 Namespaces
	RunAsUser                  *int64
	RunAsGroup                 *int64
	RunAsUsername              string
	SupplementalGroups         []int64
	StrictSupplementalGroups   bool
	ReadOnlyRootfs             bool
	NoNewPrivs                 bool
	MaskedPaths, ReadOnlyPaths []string
	Seccomp                    *Profile
	AppArmor                   *Profile
	SELinuxUser, SELinuxRole   string
	SELinuxType, SELinuxLevel  string
}

// ContainerConfig describes the container to create.
type ContainerConfig struct {
	Name                string
	Attempt             uint32
	Image               string // the reference the runtime resolved, see EnsureImage
	UserImage           string // the name the user wrote
	Command, Args       []string
	WorkingDir          string
	Env                 []EnvVar
	Mounts              []Mount
	Devices             []Device
	Labels, Annotations map[string]string
	// LogPath is relative to the sandbox's LogDirectory.
	LogPath               string
	Stdin, StdinOnce, TTY bool
	// StopSignal ends it, such as SIGUSR1. Empty leaves it to the image. Runtimes before
	// containerd 2.1 take no notice.
	StopSignal string
	Resources  Resources
	Security   Security
}
