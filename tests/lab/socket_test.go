package lab

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLongDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a lab is run by root: only root may write to /run")
	}
	for _, n := range []int{1, 120} {
		l := newLab(t)
		l.cfg.Name = "sock"
		l.cfg.Dir = filepath.Join(t.TempDir(), strings.Repeat("d", n))
		e := &Edge{lab: l, Name: "edge1"}
		if err := os.MkdirAll(e.Path("containerd"), 0o755); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a second start finds what the first has made
			if err := e.addShortcut(); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range []string{e.socket() + ".ttrpc", e.LinkSocket()} {
			ln, err := net.Listen("unix", p)
			if err != nil {
				t.Errorf("directory of %d letters: %v", n, err)
				continue
			}
			if !exists(filepath.Join(e.Path(), strings.TrimPrefix(strings.TrimPrefix(p, e.shortcut()), e.Path()))) {
				t.Errorf("%s is not in the edge's directory", p)
			}
			_ = ln.Close()
		}
		if err := e.removeShortcut(); err != nil {
			t.Fatal(err)
		}
		if exists(e.shortcut()) {
			t.Errorf("%s is left", e.shortcut())
		}
	}
}
