package volumes

import (
	"io/fs"
	"os"
	"path/filepath"
)

// The bits that fsGroup adds: the group may read, write unless the volume is
// read-only, enter directories, and new files inherit the group.
const (
	groupReadWrite = 0o660
	groupReadOnly  = 0o440
	groupEnter     = 0o110
)

// ownTree gives a tree to a group, as fsGroup asks.
func ownTree(root string, group int64, readOnly bool) error {
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return own(path, group, readOnly)
	})
}

func own(path string, group int64, readOnly bool) error {
	if err := os.Lchown(path, -1, int(group)); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	add := fs.FileMode(groupReadWrite)
	if readOnly {
		add = groupReadOnly
	}
	mode := info.Mode() | add
	if info.IsDir() {
		mode |= groupEnter | fs.ModeSetgid
	}
	return os.Chmod(path, mode)
}
