package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// openBeneath opens a path below base, which nothing leads out of: the kernel
// resolves it, while containers may change what lies there. It opens no more than
// the name, so that a pipe does not wait for a writer, and a device does nothing.
//
// A link to an absolute path is followed if it ends below base, as kubelets do:
// hostPath volumes have such links of their owners'.
func openBeneath(base, sub string) (*os.File, error) {
	f, err := resolveBeneath(base, sub, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS)
	switch {
	case errors.Is(err, unix.ENOSYS):
		return openBeneathOld(base, sub) // before Linux 5.6
	case !errors.Is(err, unix.EXDEV):
		return f, err
	}
	real, evalErr := filepath.EvalSymlinks(base)
	if evalErr != nil {
		return nil, errors.Join(err, evalErr)
	}
	target, evalErr := filepath.EvalSymlinks(filepath.Join(real, sub))
	if evalErr != nil {
		return nil, errors.Join(err, evalErr)
	}
	rel, relErr := filepath.Rel(real, target)
	if relErr != nil || !filepath.IsLocal(rel) {
		return nil, err
	}
	return resolveBeneath(real, rel, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

// resolveTries is how often a resolution is tried that a rename elsewhere disturbs.
const resolveTries = 32

func resolveBeneath(base, sub string, how uint64) (*os.File, error) {
	return resolve(base, sub, unix.O_PATH|unix.O_CLOEXEC, how)
}

func resolve(base, sub string, flags, how uint64) (*os.File, error) {
	root, err := unix.Open(base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: base, Err: err}
	}
	defer func() { _ = unix.Close(root) }()
	for range resolveTries {
		var fd int
		fd, err = unix.Openat2(root, sub, &unix.OpenHow{Flags: flags, Resolve: how})
		if err == nil {
			return os.NewFile(uintptr(fd), filepath.Join(base, sub)), nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return nil, &fs.PathError{Op: "openat2", Path: filepath.Join(base, sub), Err: err}
}

// openBeneathOld does it in this process.
func openBeneathOld(base, sub string) (*os.File, error) {
	root, err := os.OpenRoot(base)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	return root.OpenFile(sub, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// makeBeneath makes the directories of a path below base that are not there, with
// the mode of base: what a container makes there later must be as usable as the rest.
func makeBeneath(base, sub string) error {
	root, err := os.OpenRoot(base)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	path := ""
	for part := range strings.SplitSeq(filepath.Clean(sub), string(filepath.Separator)) {
		path = filepath.Join(path, part)
		err := root.Mkdir(path, info.Mode().Perm())
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			// Once more with the umask's bits.
			err = root.Chmod(path, info.Mode()&(fs.ModePerm|fs.ModeSetgid))
		}
		if err != nil {
			return fmt.Errorf("make directory of a subPath: %w", err)
		}
	}
	return nil
}
