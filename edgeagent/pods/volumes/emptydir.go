package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// emptyDirMode lets every user of the pod write, whatever uid its containers
// run as; the pod's directory above it keeps other users of the node out.
const emptyDirMode = 0o777

func (m *Manager) setUpEmptyDir(pod *corev1.Pod, v *corev1.Volume) error {
	dir := m.Path(pod, v)
	_, err := os.Stat(dir)
	fresh := errors.Is(err, fs.ErrNotExist)
	if fresh {
		if err := makeEmptyDir(dir); err != nil {
			return err
		}
	}
	switch v.EmptyDir.Medium {
	case corev1.StorageMediumDefault:
	case corev1.StorageMediumMemory:
		var size int64
		if v.EmptyDir.SizeLimit != nil {
			size = v.EmptyDir.SizeLimit.Value()
		}
		if err := m.mounter.Tmpfs(dir, size); err != nil {
			return err
		}
	default:
		return fmt.Errorf("medium %q of emptyDir is not supported on this node", v.EmptyDir.Medium)
	}
	group := fsGroup(pod)
	if !fresh && (group == nil || ownedBy(dir, *group)) {
		// A restart of the agent: what the containers made of it is theirs.
		return nil
	}
	if err := os.Chmod(dir, emptyDirMode); err != nil {
		return err
	}
	if group == nil {
		return nil
	}
	return ownTree(dir, *group, false)
}

// makeEmptyDir makes a directory that has its mode as soon as it has its name:
// the mode of one that is there is its containers' and not looked at again.
func makeEmptyDir(dir string) error {
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
	return os.Rename(tmp, dir)
}

func ownedBy(path string, group int64) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int64(st.Gid) == group
}
