package volumes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Local is a local PersistentVolume that a pod claims to write to. Of all that a claim
// can be bound to here it is the one that fsGroup is for: a kubelet leaves hostPath
// volumes, and what is claimed for reading only, as they are.
type Local struct {
	// Name is the PersistentVolume's.
	Name string
	// Path is on the host.
	Path string
}

// localPlugin is the kubelet's name of the plugin. A file in a pod's directory of that
// name stands for the kubelet's mount: while it is there the pod uses the volume, and
// its owner is not changed again. It holds the boot and the path.
const localPlugin = "kubernetes.io~local-volume"

// SetUpLocal gives local volumes to the pod's fsGroup, once a pod and boot, and not
// while another pod uses them. The warning, if not empty, is for an event
// AlreadyMountedVolume.
func (m *Manager) SetUpLocal(ctx context.Context, pod *corev1.Pod, local Local) (warning string, err error) {
	fail := func(err error) error { return &SetUpError{Volume: local.Name, Err: err} }
	if !fs.ValidPath(local.Name) || filepath.Base(local.Name) != local.Name {
		return "", fail(fmt.Errorf("invalid name of a volume %q", local.Name))
	}
	boot, err := m.bootID()
	if err != nil {
		return "", fail(err)
	}
	unlock, err := m.lockPath(ctx, local.Path)
	if err != nil {
		return "", fail(err)
	}
	defer unlock()
	mark := filepath.Join(m.PodDir(pod.UID), "volumes", localPlugin, local.Name)
	says := append(append(bytes.TrimSpace(boot), '\n'), local.Path...)
	if b, err := os.ReadFile(mark); err == nil && bytes.Equal(b, says) {
		return "", nil // as before a restart of the agent
	}
	if group := fsGroup(pod); group != nil {
		used, err := m.usedByOthers(pod.UID, says)
		if err != nil {
			return "", fail(err)
		}
		if warning, err = m.give(ctx, pod, local, *group, used); err != nil {
			return "", fail(err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(mark), 0o750); err != nil {
		return warning, fail(err)
	}
	if err := os.WriteFile(mark, says, 0o600); err != nil {
		return warning, fail(err)
	}
	return warning, nil
}

func (m *Manager) give(ctx context.Context, pod *corev1.Pod, local Local, group int64, used bool) (string, error) {
	info, err := os.Stat(local.Path)
	if err != nil {
		return "", err
	}
	has, known := groupOf(info)
	if used {
		if known && has != group {
			return fmt.Sprintf("The requested fsGroup is %d, but the volume %s has GID %d. The volume may not be shareable.", group, local.Name, has), nil
		}
		return "", nil
	}
	policy := pod.Spec.SecurityContext.FSGroupChangePolicy
	if policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch && known && has == group && groupMayWrite(info) {
		return "", nil
	}
	root, err := os.OpenRoot(local.Path)
	if err != nil {
		return "", err
	}
	defer root.Close() //nolint:errcheck // only read
	return "", m.ownDeep(ctx, root, ".", group)
}

// usedByOthers says whether another pod has marked the same path since the boot.
func (m *Manager) usedByOthers(uid types.UID, says []byte) (bool, error) {
	uids, err := m.Pods()
	if err != nil {
		return false, err
	}
	for _, other := range slices.DeleteFunc(uids, func(u types.UID) bool { return u == uid }) {
		dir := filepath.Join(m.PodDir(other), "volumes", localPlugin)
		marks, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		for _, mark := range marks {
			if b, err := os.ReadFile(filepath.Join(dir, mark.Name())); err == nil && bytes.Equal(b, says) {
				return true, nil
			}
		}
	}
	return false, nil
}

// lockPath keeps two pods from changing the owner of one volume at a time. The first
// comes from where the other has to wait, so it is no mutex.
func (m *Manager) lockPath(ctx context.Context, path string) (unlock func(), err error) {
	for {
		m.mu.Lock()
		busy := m.busy[path]
		if busy == nil {
			done := make(chan struct{})
			m.busy[path] = done
			m.mu.Unlock()
			return func() {
				m.mu.Lock()
				delete(m.busy, path)
				m.mu.Unlock()
				close(done)
			}, nil
		}
		m.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ownDeep gives a tree to a group, the root last: by that FSGroupChangeOnRootMismatch
// tells that nothing is left to do. A file that can't be changed, or has gone, keeps no
// pod from starting.
func (m *Manager) ownDeep(ctx context.Context, root *os.Root, name string, group int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		entries, err := readDirIn(root, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if err := m.ownDeep(ctx, root, filepath.Join(name, e.Name()), group); err != nil {
				return err
			}
		}
	}
	if err := own(root, name, group, false); err != nil {
		m.log.Warn("file of a volume not given to fsGroup", "path", filepath.Join(root.Name(), name), "error", err)
	}
	return nil
}

// readDirIn lists a directory below root, which somebody may make something else just now.
// Unlike an fs.FS it takes names of any bytes.
func readDirIn(root *os.Root, name string) ([]os.DirEntry, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return f.ReadDir(-1)
}

// groupMayWrite says whether fsGroup has nothing to change at the root of a volume.
func groupMayWrite(info fs.FileInfo) bool {
	const want = groupReadWrite | groupEnter
	return info.IsDir() && info.Mode().Perm()&want == want && info.Mode()&fs.ModeSetgid != 0
}

func groupOf(info fs.FileInfo) (int64, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int64(st.Gid), true
}

// bootID tells boots apart: what a kubelet has mounted, a boot undoes.
func (m *Manager) bootID() ([]byte, error) {
	b, err := os.ReadFile(m.bootFile)
	if err != nil {
		return nil, fmt.Errorf("read the id of this boot: %w", err)
	}
	return b, nil
}
