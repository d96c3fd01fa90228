package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/downward"
)

// ErrNotFound says that an object is not in the store of desired state. An
// implementation of Objects returns errors that wrap it.
var ErrNotFound = errors.New("not found")

// ErrNotYet says that something is on its way: a token, which the cloud makes
// after it has sent the pod.
var ErrNotYet = errors.New("has not arrived yet")

// Objects reads the desired state that volumes show.
type Objects interface {
	ConfigMap(namespace, name string) (*corev1.ConfigMap, error)
	Secret(namespace, name string) (*corev1.Secret, error)
	// Token returns the projected service account token of a pod; see wire.TokenID.
	Token(namespace, pod, id string) (*authenticationv1.TokenRequest, error)
}

// Mounter does the mounts that need the kernel.
type Mounter interface {
	// Memory mounts a file system in memory at dir unless one is mounted there.
	Memory(dir string, t MemoryFS) error
	// Bind binds an open file or directory onto target.
	Bind(from *os.File, target string) error
	// Unmount removes a mount.
	Unmount(path string) error
	// Mounts lists the mount points at and below dir, deepest first.
	Mounts(dir string) ([]string, error)
}

// UnsupportedError names a volume source that this agent cannot provide.
// Retrying does not help.
type UnsupportedError struct {
	Volume string
	Source string
	// Why tells more than that this node can't; it may be empty.
	Why string
}

// Error names the volume and its source.
func (e *UnsupportedError) Error() string {
	text := fmt.Sprintf("volume %q: %s volumes are not supported on this node", e.Volume, e.Source)
	if e.Why != "" {
		text += ": " + e.Why
	}
	return text
}

// SetUpError says which volume could not be set up. Retrying helps once the
// cause is gone.
type SetUpError struct {
	Volume string
	Err    error
}

// Error reads like the kubelet's FailedMount event.
func (e *SetUpError) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

// Unwrap returns the cause.
func (e *SetUpError) Unwrap() error { return e.Err }

// Config says where volumes live and what they show.
type Config struct {
	// StateDir is the directory above pods/UID. Required.
	StateDir string
	// Objects is the desired state. Required.
	Objects Objects
	// Bundles reads trust bundles. Nil means that there are none.
	Bundles Bundles
	// Certificates makes and keeps certificates of pods. Nil means that there are none.
	Certificates Certificates
	// Mounter does the mounts. Nil means the kernel's.
	Mounter Mounter
	// Log receives debug lines. Nil discards them.
	Log *slog.Logger
}

// Manager sets up and tears down the volumes of pods. Calls for different pods
// may run at the same time; calls for one pod may not.
type Manager struct {
	root    string
	objects Objects
	bundles Bundles
	mounter Mounter
	// certificates outlive the volumes that show them: these are in memory.
	certificates Certificates

	log      *slog.Logger
	bootFile string

	mu   sync.Mutex               // guards the following field
	busy map[string]chan struct{} // by path, closed when its owner has been changed
}

// bootFile is another at each boot.
const bootFile = "/proc/sys/kernel/random/boot_id"

// New returns a Manager.
func New(cfg Config) (*Manager, error) {
	if cfg.StateDir == "" || cfg.Objects == nil {
		return nil, errors.New("volumes: StateDir and Objects are required")
	}
	if cfg.Bundles == nil {
		cfg.Bundles = noBundles{}
	}
	if cfg.Certificates == nil {
		cfg.Certificates = noCertificates{}
	}
	if cfg.Mounter == nil {
		cfg.Mounter = kernelMounter{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	root, err := podsDir(cfg.StateDir)
	if err != nil {
		return nil, fmt.Errorf("volumes: StateDir: %w", err)
	}
	return &Manager{
		root: root, objects: cfg.Objects, bundles: cfg.Bundles, certificates: cfg.Certificates, mounter: cfg.Mounter, log: cfg.Log,
		bootFile: bootFile, busy: map[string]chan struct{}{},
	}, nil
}

// podsDir makes the directory of all pods and gives the name that the kernel
// has for it. Mounts are found by name: behind a symbolic link none would be, and
// what a pod has mounted would be deleted with its directory.
func podsDir(stateDir string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(stateDir, "pods"))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// PodDir is the directory of everything that belongs to one pod.
func (m *Manager) PodDir(uid types.UID) string { return filepath.Join(m.root, string(uid)) }

// Pods lists the pods that have a directory or keys, in no order.
func (m *Manager) Pods() ([]types.UID, error) {
	entries, err := os.ReadDir(m.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list pod directories: %w", err)
	}
	out := m.certificates.Pods()
	for _, e := range entries {
		if uid := types.UID(e.Name()); !slices.Contains(out, uid) {
			out = append(out, uid)
		}
	}
	return out, nil
}

// Check says whether all volume sources of the pod are supported.
func Check(pod *corev1.Pod) error {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if plugin(v) == "" {
			return &UnsupportedError{Volume: v.Name, Source: sourceName(v)}
		}
	}
	return nil
}

// SetUp makes all volumes of the pod. It stops at the first that fails.
func (m *Manager) SetUp(pod *corev1.Pod, facts downward.Facts) error {
	if err := Check(pod); err != nil {
		return err
	}
	for i := range pod.Spec.Volumes {
		err := m.setUp(pod, &pod.Spec.Volumes[i], facts)
		if u, ok := errors.AsType[*UnsupportedError](err); ok {
			return u // it says all
		}
		if err != nil {
			return &SetUpError{Volume: pod.Spec.Volumes[i].Name, Err: err}
		}
	}
	return nil
}

// Refresh writes the volumes whose content follows API objects again. The
// content of a volume that fails stays as it was.
func (m *Manager) Refresh(pod *corev1.Pod, facts downward.Facts) error {
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !Follows(v) {
			continue
		}
		if err := m.setUp(pod, v, facts); err != nil {
			errs = append(errs, &SetUpError{Volume: v.Name, Err: err})
		}
	}
	return errors.Join(errs...)
}

// Follows says whether the content of a volume changes with API objects.
func Follows(v *corev1.Volume) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}

// Path is the host path of a volume that has been set up.
func (m *Manager) Path(pod *corev1.Pod, v *corev1.Volume) string {
	if v.HostPath != nil {
		return v.HostPath.Path
	}
	return filepath.Join(m.PodDir(pod.UID), "volumes", "kubernetes.io~"+plugin(v), v.Name)
}

// Release unmounts and deletes the volumes of a pod that has finished, and
// leaves the small files that belong to its containers.
func (m *Manager) Release(uid types.UID) error {
	return errors.Join(
		m.certificates.Forget(uid),
		m.remove(uid, filepath.Join(m.PodDir(uid), "volume-subpaths")),
		m.remove(uid, filepath.Join(m.PodDir(uid), "volumes")),
	)
}

// TearDown unmounts and deletes everything of a pod. A pod that has nothing
// is no error.
func (m *Manager) TearDown(uid types.UID) error {
	// Its keys first: by its directory a pod is known that is not gone whole.
	if err := m.certificates.Forget(uid); err != nil {
		return fmt.Errorf("tear down volumes of pod %s: %w", uid, err)
	}
	return m.remove(uid, m.PodDir(uid))
}

func (m *Manager) remove(uid types.UID, dir string) error {
	mounts, err := m.mounter.Mounts(dir)
	if err != nil {
		return fmt.Errorf("tear down volumes of pod %s: %w", uid, err)
	}
	for _, p := range mounts {
		if err := m.mounter.Unmount(p); err != nil {
			return fmt.Errorf("tear down volumes of pod %s: %w", uid, err)
		}
	}
	// A mount that is left may be somebody's data: hostPath under a subPath, or
	// what a container mounted with Bidirectional propagation.
	if mounts, err = m.mounter.Mounts(dir); err != nil || len(mounts) > 0 {
		return errors.Join(fmt.Errorf("tear down volumes of pod %s: still mounted: %v", uid, mounts), err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("tear down volumes of pod %s: %w", uid, err)
	}
	return nil
}

func (m *Manager) setUp(pod *corev1.Pod, v *corev1.Volume, facts downward.Facts) error {
	switch {
	case v.HostPath != nil:
		return setUpHostPath(v.HostPath)
	case v.Image != nil:
		return nil // the runtime mounts it
	case v.EmptyDir != nil:
		return m.setUpEmptyDir(pod, v, facts)
	default:
		return m.setUpPayload(pod, v, facts)
	}
}

// InMemory says whether a volume's files are in memory and not on the disk.
func InMemory(v *corev1.Volume) bool {
	return v.Secret != nil || v.Projected != nil || v.EmptyDir != nil && v.EmptyDir.Medium != corev1.StorageMediumDefault
}

// setUpPayload writes a volume made of files from API objects.
func (m *Manager) setUpPayload(pod *corev1.Pod, v *corev1.Volume, facts downward.Facts) error {
	files, err := m.payload(pod, v, facts)
	if err != nil {
		return err
	}
	dir := m.Path(pod, v)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	// Secrets, tokens and what a projected volume may mix with them never touch
	// the disk, nor the swap of a kernel that can do without.
	if InMemory(v) {
		if err := m.mounter.Memory(dir, MemoryFS{Mode: 0o777, NoSwap: true}); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		return err
	}
	group := fsGroup(pod)
	if group != nil {
		if err := ownDir(dir, *group, true); err != nil {
			return err
		}
	}
	return writeAtomically(dir, files, func(path string) error {
		if group == nil {
			return nil
		}
		return ownTree(path, *group, true)
	})
}

func fsGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// plugin is the kubelet's name of the volume plugin; empty if not supported.
func plugin(v *corev1.Volume) string {
	switch {
	case v.EmptyDir != nil:
		return "empty-dir"
	case v.HostPath != nil:
		return "host-path"
	case v.ConfigMap != nil:
		return "configmap"
	case v.Secret != nil:
		return "secret"
	case v.DownwardAPI != nil:
		return "downward-api"
	case v.Projected != nil:
		return "projected"
	case v.Image != nil:
		return "image"
	default:
		return ""
	}
}

func sourceName(v *corev1.Volume) string {
	switch {
	case v.CSI != nil:
		return "csi"
	case v.PersistentVolumeClaim != nil:
		return "persistentVolumeClaim"
	case v.NFS != nil:
		return "nfs"
	case v.Ephemeral != nil:
		return "ephemeral"
	case v.ISCSI != nil:
		return "iscsi"
	default:
		return "such"
	}
}
