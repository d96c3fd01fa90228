package volumes

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// maxEnvFile is more than any file of variables has: a container wrote it.
const maxEnvFile = 1 << 20

// EnvFile reads a file of variables that a container has left in a volume. No link
// leads out of the volume: for those the volume is the root.
func (m *Manager) EnvFile(pod *corev1.Pod, v *corev1.Volume, path string) ([]byte, error) {
	f, err := openInRoot(m.Path(pod, v), path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxEnvFile {
		return nil, fmt.Errorf("%s is no regular file of up to %d bytes", path, maxEnvFile)
	}
	return io.ReadAll(io.LimitReader(f, maxEnvFile))
}

// openInRoot opens a file once it is known to be one: to open a device can be to start
// what it drives, and a pipe waits for who writes to it.
func openInRoot(base, path string) (*os.File, error) {
	name, err := resolve(base, path, unix.O_PATH|unix.O_CLOEXEC, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if errors.Is(err, unix.ENOSYS) {
		return openBeneathOld(base, path)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = name.Close() }()
	if info, err := name.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file", path))
	}
	return os.Open("/proc/self/fd/" + strconv.FormatUint(uint64(name.Fd()), 10))
}
