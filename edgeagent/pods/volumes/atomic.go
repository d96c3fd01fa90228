package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The names that make a volume change all at once: every file the container
// sees is a link through ..data, and ..data is swapped by one rename.
//
//	key          -> ..data/key
//	..data       -> ..2026_01_02_15_04_05.123456789
//	..2026_.../key
const (
	dataLink    = "..data"
	dataLinkTmp = "..data_tmp"
	// stampFormat is the kubelet's; programs in pods watch for "..2".
	stampFormat = "..2006_01_02_15_04_05."
)

// writeAtomically makes dir show exactly want. perms is called on the new tree
// before anyone sees it.
func writeAtomically(dir string, want files, perms func(path string) error) error {
	for name := range want {
		if !filepath.IsLocal(name) || strings.HasPrefix(name, "..") {
			return fmt.Errorf("invalid path %q in volume", name)
		}
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old != "" && unchanged(filepath.Join(dir, old), want) {
		// A crash may have come between the swap and the links.
		return errors.Join(linkNames(dir, want), dropNames(dir, want), dropStale(dir, old))
	}
	stamp, err := os.MkdirTemp(dir, time.Now().UTC().Format(stampFormat)+"*")
	if err != nil {
		return err
	}
	if err := writeTree(stamp, want); err != nil {
		return errors.Join(err, os.RemoveAll(stamp))
	}
	if err := perms(stamp); err != nil {
		return errors.Join(err, os.RemoveAll(stamp))
	}
	tmp := filepath.Join(dir, dataLinkTmp)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Base(stamp), tmp); err != nil {
		return errors.Join(err, os.RemoveAll(stamp))
	}
	if err := os.Rename(tmp, filepath.Join(dir, dataLink)); err != nil {
		return errors.Join(err, os.RemoveAll(stamp))
	}
	return errors.Join(linkNames(dir, want), dropNames(dir, want), dropStale(dir, filepath.Base(stamp)))
}

// unchanged says whether the tree holds exactly want.
func unchanged(tree string, want files) bool {
	n := 0
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		f, ok := want[name]
		if !ok {
			return fs.ErrNotExist
		}
		have, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(have, f.data) {
			return fs.ErrNotExist
		}
		n++
		return nil
	})
	return err == nil && n == len(want)
}

func writeTree(root string, want files) error {
	// The umask must not take the bits that the pod asked for.
	if err := os.Chmod(root, 0o755); err != nil {
		return err
	}
	for name, f := range want {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.data, fs.FileMode(f.mode).Perm()); err != nil {
			return err
		}
		if err := os.Chmod(path, fs.FileMode(f.mode).Perm()); err != nil {
			return err
		}
		if f.user != nil {
			if err := os.Chown(path, int(*f.user), -1); err != nil {
				return err
			}
		}
	}
	return nil
}

// linkNames makes the links that containers see, one per first path element.
func linkNames(dir string, want files) error {
	for name := range want {
		top, _, _ := strings.Cut(name, "/")
		err := os.Symlink(filepath.Join(dataLink, top), filepath.Join(dir, top))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// dropNames removes links to files that are no longer there.
func dropNames(dir string, want files) error {
	keep := map[string]bool{}
	for name := range want {
		top, _, _ := strings.Cut(name, "/")
		keep[top] = true
	}
	return eachEntry(dir, func(name string) error {
		if strings.HasPrefix(name, "..") || keep[name] {
			return nil
		}
		return os.Remove(filepath.Join(dir, name))
	})
}

// dropStale removes the trees of former contents and of interrupted writes.
func dropStale(dir, current string) error {
	return eachEntry(dir, func(name string) error {
		if !strings.HasPrefix(name, "..2") || name == current {
			return nil
		}
		return os.RemoveAll(filepath.Join(dir, name))
	})
}

func eachEntry(dir string, f func(name string) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := f(e.Name()); err != nil {
			return err
		}
	}
	return nil
}
