package volumes

import (
	"io/fs"
	"os"
)

// The bits that fsGroup adds: the group may read, write unless the volume is
// read-only, enter directories, and new files inherit the group.
const (
	groupReadWrite = 0o660
	groupReadOnly  = 0o440
	groupEnter     = 0o110
)

// ownTree gives a tree to a group, as fsGroup asks. Nothing outside the tree is touched,
// whatever a container makes of its directories meanwhile.
func ownTree(path string, group int64, readOnly bool) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // only read
	return fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return own(root, name, group, readOnly)
	})
}

// ownDir gives a directory, and nothing in it, to a group.
func ownDir(path string, group int64, readOnly bool) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // only read
	return own(root, ".", group, readOnly)
}

// own gives one file below root to a group.
func own(root *os.Root, name string, group int64, readOnly bool) error {
	if err := root.Lchown(name, -1, int(group)); err != nil {
		return err
	}
	info, err := root.Lstat(name)
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
	return root.Chmod(name, mode)
}
