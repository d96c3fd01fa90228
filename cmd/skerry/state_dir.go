package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/skerry-io/skerry/certs"
)

// marker makes a directory ours. A reset removes no state directory without it,
// and a join puts it into none that holds anything else, so that no slip in
// --state-dir ever costs more than an error message.
const marker = ".skerry-state"

const markerText = "This directory belongs to the Skerry edge agent; `skerry reset` removes it.\n"

func hasMarker(dir string) bool {
	info, err := os.Lstat(filepath.Join(dir, marker))
	return err == nil && info.Mode().IsRegular()
}

// ownOrEmpty refuses a directory that holds things of others.
func ownOrEmpty(dir string) error {
	if hasMarker(dir) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Name() != "lost+found" { // a file system of its own
			return fmt.Errorf("it holds %s and more; choose an empty directory (--state-dir)", e.Name())
		}
	}
	return nil
}

// claimStateDir makes and marks the directory. The undo removes what it made.
func claimStateDir(dir string) (undo func() error, err error) {
	if hasMarker(dir) {
		return func() error { return nil }, nil
	}
	if err := ownOrEmpty(dir); err != nil {
		return nil, fmt.Errorf("state directory %s: %w", dir, err)
	}
	_, statErr := os.Stat(dir)
	made := errors.Is(statErr, os.ErrNotExist)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	name := filepath.Join(dir, marker)
	if err := certs.WriteFileAtomic(name, []byte(markerText), 0o600); err != nil {
		return nil, err
	}
	return func() error {
		err := os.Remove(name)
		if made {
			err = errors.Join(err, os.Remove(dir))
		}
		return err
	}, nil
}
