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

// CheckSubPath says whether a subPath, with its variables expanded, may be looked
// for in a volume. The words are the kubelet's.
func CheckSubPath(sub string) error {
	if filepath.IsAbs(sub) {
		return fmt.Errorf("error SubPath `%s` must not be an absolute path", sub)
	}
	for part := range strings.SplitSeq(sub, "/") {
		if part == ".." {
			return fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", sub)
		}
	}
	return nil
}

// SubPath binds a path inside a volume to a place of its own and returns that
// place. Containers write to the volume while the path is resolved, so the kernel
// resolves it, and what is mounted is what was opened, not its name.
func (m *Manager) SubPath(pod *corev1.Pod, v *corev1.Volume, container string, index int, sub string) (string, error) {
	if err := CheckSubPath(sub); err != nil {
		return "", err
	}
	// The cause may tell the user of a pod about the host's files.
	fail := func(what string, err error) error {
		m.log.Warn("subpath not usable", "pod_uid", pod.UID, "volume", v.Name, "error", err)
		return fmt.Errorf("failed to %s for volumeMount %q of container %q", what, v.Name, container)
	}
	base, sub := m.Path(pod, v), filepath.Clean(sub)
	from, err := openBeneath(base, sub)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeBeneath(base, sub); err != nil {
			return "", fail("create subPath directory", err)
		}
		from, err = openBeneath(base, sub)
	}
	if err != nil {
		return "", fail("prepare subPath", err)
	}
	defer func() { _ = from.Close() }()

	target := filepath.Join(m.PodDir(pod.UID), "volume-subpaths", v.Name, container, strconv.Itoa(index))
	if err := m.bind(from, target); err != nil {
		return "", fail("prepare subPath", err)
	}
	return target, nil
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
