package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// setUpHostPath makes or checks what the pod mounts from the host. The words are the
// kubelet's.
func setUpHostPath(src *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if src.Type != nil {
		kind = *src.Type
	}
	if kind == corev1.HostPathUnset {
		return nil
	}
	want := kindName(kind)
	if want == "" {
		return fmt.Errorf("%s is an invalid volume type", kind)
	}
	info, err := os.Stat(src.Path)
	absent := errors.Is(err, fs.ErrNotExist)
	switch {
	case absent && kind == corev1.HostPathDirectoryOrCreate:
		return os.MkdirAll(src.Path, 0o755)
	case absent && kind == corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(filepath.Clean(src.Path), os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	case absent:
		err = fmt.Errorf("path %q does not exist", src.Path)
	}
	if err != nil {
		return fmt.Errorf("hostPath type check failed, %s is not a %s, unable to determine its type: %w", src.Path, want, err)
	}
	has := kindOf(info.Mode())
	if kindName(has) != want {
		if has == corev1.HostPathUnset {
			return fmt.Errorf("hostPath type check failed, %s is not a %s, unable to determine its type: only recognise file, directory, socket, block device and character device",
				src.Path, want)
		}
		return fmt.Errorf("hostPath type check failed: %s is not a %s, it's a %s", src.Path, want, has)
	}
	return nil
}

// kindName is what messages call a type; empty for one that is none.
func kindName(kind corev1.HostPathType) string {
	switch kind {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		return "directory"
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		return "file"
	case corev1.HostPathSocket:
		return "socket file"
	case corev1.HostPathCharDev:
		return "character device"
	case corev1.HostPathBlockDev:
		return "block device"
	default:
		return ""
	}
}

func kindOf(mode fs.FileMode) corev1.HostPathType {
	switch {
	case mode.IsDir():
		return corev1.HostPathDirectory
	case mode.IsRegular():
		return corev1.HostPathFile
	case mode&fs.ModeSocket != 0:
		return corev1.HostPathSocket
	case mode&fs.ModeCharDevice != 0:
		return corev1.HostPathCharDev
	case mode&fs.ModeDevice != 0:
		return corev1.HostPathBlockDev
	default:
		return corev1.HostPathUnset
	}
}
