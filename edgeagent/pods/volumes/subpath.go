package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// SubPath binds a path inside a volume to a place of its own and returns that
// place. Containers write to the volume while we resolve the path, so it is
// opened through os.Root, which no symbolic link leads out of, and what is
// mounted is the opened file, not its name.
func (m *Manager) SubPath(pod *corev1.Pod, v *corev1.Volume, container string, index int, sub string) (string, error) {
	if filepath.IsAbs(sub) {
		return "", fmt.Errorf("error SubPath `%s` must not be an absolute path", sub)
	}
	for part := range strings.SplitSeq(filepath.ToSlash(sub), "/") {
		if part == ".." {
			return "", fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", sub)
		}
	}
	fail := func(err error) error {
		m.log.Warn("subpath not usable", "pod_uid", pod.UID, "volume", v.Name, "error", err)
		// The cause may tell the user of a pod about the host's files.
		return fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q", v.Name, container)
	}
	base := m.Path(pod, v)
	root, err := os.OpenRoot(base)
	if err != nil {
		return "", fail(err)
	}
	defer func() { _ = root.Close() }()
	from, err := openOrMake(root, base, filepath.Clean(sub))
	if err != nil {
		return "", fail(err)
	}
	defer func() { _ = from.Close() }()

	target := filepath.Join(m.PodDir(pod.UID), "volume-subpaths", v.Name, container, strconv.Itoa(index))
	if err := m.bind(from, target); err != nil {
		return "", fail(err)
	}
	return target, nil
}

// openOrMake opens sub, making it a directory like the volume's own if it is
// not there.
func openOrMake(root *os.Root, base, sub string) (*os.File, error) {
	f, err := root.Open(sub)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	info, err := os.Stat(base)
	if err != nil {
		return nil, err
	}
	if err := root.MkdirAll(sub, info.Mode().Perm()); err != nil {
		return nil, err
	}
	// Once more with the umask's bits.
	if err := root.Chmod(sub, info.Mode()&(fs.ModePerm|fs.ModeSetgid)); err != nil {
		return nil, err
	}
	return root.Open(sub)
}

func (m *Manager) bind(from *os.File, target string) error {
	// A mount of the container's former life may show a file that is replaced by now.
	mounts, err := m.mounter.Mounts(target)
	if err != nil {
		return err
	}
	for _, p := range mounts {
		if err := m.mounter.Unmount(p); err != nil {
			return err
		}
	}
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if info.IsDir() {
		if err := os.Mkdir(target, 0o750); err != nil {
			return err
		}
	} else if err := os.WriteFile(target, nil, 0o640); err != nil {
		return err
	}
	return m.mounter.Bind(from, target)
}
