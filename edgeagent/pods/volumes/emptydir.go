package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/pods/downward"
)

// emptyDirMode lets every user of the pod write, whatever uid its containers
// run as; the pod's directory above it keeps other users of the node out.
const emptyDirMode = 0o777

// setUpEmptyDir makes the directory, or the file system, with its owner and mode.
// One that is there is its containers': what they made of it is not looked at again.
func (m *Manager) setUpEmptyDir(pod *corev1.Pod, v *corev1.Volume, facts downward.Facts) error {
	dir := m.Path(pod, v)
	group := fsGroup(pod)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := makeEmptyDir(dir, group); err != nil {
			return err
		}
	}
	switch v.EmptyDir.Medium {
	case corev1.StorageMediumDefault:
		return nil
	case corev1.StorageMediumMemory:
		return m.mounter.Memory(dir, MemoryFS{Size: memorySize(pod, v.EmptyDir, facts), Mode: emptyDirMode, Group: group})
	default:
		of, err := hugePagesFS(pod, v.EmptyDir)
		if err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
		of.Mode, of.Group = emptyDirMode, group
		return m.mounter.Memory(dir, of)
	}
}

// makeEmptyDir makes a directory that has its owner and mode as soon as it has its
// name.
func makeEmptyDir(dir string, group *int64) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o750); err != nil {
		return err
	}
	// No volume has such a name, and a crash leaves one directory at most.
	tmp := filepath.Join(parent, "..new")
	if err := os.Mkdir(tmp, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(tmp, emptyDirMode); err != nil {
		return err
	}
	if group != nil {
		if err := ownTree(tmp, *group, false); err != nil {
			return err
		}
	}
	return os.Rename(tmp, dir)
}

// memorySize is how large a volume in memory may become: no larger than its limit, than
// what the pod may use, and than what the node has for pods. Zero leaves it to the kernel.
func memorySize(pod *corev1.Pod, src *corev1.EmptyDirVolumeSource, facts downward.Facts) int64 {
	var size int64
	least := func(v int64) {
		if v > 0 && (size == 0 || v < size) {
			size = v
		}
	}
	least(facts.Allocatable.Memory().Value())
	least(memoryLimit(pod))
	if src.SizeLimit != nil {
		least(src.SizeLimit.Value())
	}
	return size
}

// memoryLimit is the memory that a pod may use; zero if that is not limited.
func memoryLimit(pod *corev1.Pod) int64 {
	if r := pod.Spec.Resources; r != nil && !r.Limits.Memory().IsZero() {
		return r.Limits.Memory().Value()
	}
	var sum, sidecars, most int64
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		limit := c.Resources.Limits.Memory().Value()
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			if limit == 0 {
				return 0
			}
			sidecars += limit
			limit = 0
		} else if limit == 0 {
			return 0
		}
		most = max(most, sidecars+limit)
	}
	for i := range pod.Spec.Containers {
		limit := pod.Spec.Containers[i].Resources.Limits.Memory().Value()
		if limit == 0 {
			return 0
		}
		sum += limit
	}
	total := max(most, sum+sidecars)
	if total > 0 {
		total += pod.Spec.Overhead.Memory().Value()
	}
	return total
}
