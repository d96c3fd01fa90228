package websocket

import (
	"bytes"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Files keep objects, a file each.
type Files struct{ Dir string }

func (f Files) path(key string) string { return filepath.Join(f.Dir, url.PathEscape(key)) }

// Put stores an object, on the disk when it returns.
func (f Files) Put(key string, object []byte) error {
	file, err := f.create(key, object)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

func (f Files) create(key string, object []byte) (*os.File, error) {
	file, err := os.OpenFile(f.path(key), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(object); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Delete removes an object.
func (f Files) Delete(key string) error {
	err := os.Remove(f.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// putAll stores what differs of a list, syncs once, and gives what did.
func (f Files) putAll(items []item) ([]item, error) {
	var changed []item
	for _, i := range items {
		if have, err := os.ReadFile(f.path(i.Key)); err == nil && bytes.Equal(have, i.Object) {
			continue
		}
		file, err := f.create(i.Key, i.Object)
		if err != nil {
			return nil, err
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
		changed = append(changed, i)
	}
	if len(changed) == 0 {
		return nil, nil
	}
	dir, err := os.Open(f.Dir)
	if err != nil {
		return nil, err
	}
	return changed, errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close())
}
