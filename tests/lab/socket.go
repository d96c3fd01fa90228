package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxSocketPath is what fits into an address of unix(7), less what containerd
// puts at the end for its second socket.
const maxSocketPath = 107 - len(".ttrpc")

// socketPath names a socket below the edge's directory. One that is too long for
// an address is reached by a link with a short name.
func (e *Edge) socketPath(elem ...string) string {
	p := e.Path(elem...)
	if len(p) <= maxSocketPath {
		return p
	}
	return filepath.Join(append([]string{e.shortcut()}, elem...)...)
}

func (e *Edge) shortcut() string { return "/run/skerry-" + e.lab.cfg.Name + "-" + e.Name }

// addShortcut makes the link if a socket needs it.
func (e *Edge) addShortcut() error {
	if e.socket() == e.Path("containerd", "containerd.sock") {
		return nil
	}
	if err := e.removeShortcut(); err != nil {
		return err
	}
	if err := os.Symlink(e.Path(), e.shortcut()); err != nil {
		return fmt.Errorf("shorten the path of sockets: %w", err)
	}
	return nil
}

// removeShortcut removes the link if it is this edge's.
func (e *Edge) removeShortcut() error {
	to, err := os.Readlink(e.shortcut())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at %s: %w", e.shortcut(), err)
	case to != e.Path():
		return nil
	}
	return os.Remove(e.shortcut())
}
