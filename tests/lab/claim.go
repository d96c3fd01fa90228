package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// thing is of the machine, not of the lab's directory: its name is the lab's alone.
type thing struct {
	file   string   // is there while the thing is
	remove []string // a command
}

func device(name string) thing {
	return thing{"/sys/class/net/" + name, []string{"ip", "link", "del", name}}
}

func (e *Edge) thing() thing {
	return thing{e.Netns(), []string{"ip", "netns", "del", e.netns()}}
}

// claim marks, by a file of the lab, what it is about to make. What is there unmarked
// belongs to another lab of this name while that has processes. Without any it was left
// by one whose directory is gone or elsewhere, and is removed.
func (l *Lab) claim(ctx context.Context, mark string, things ...thing) error {
	if exists(mark) {
		return nil
	}
	for _, t := range things {
		if !exists(t.file) {
			continue
		}
		others, err := l.namesakes()
		if err != nil {
			return err
		}
		if len(others) > 0 {
			return fmt.Errorf("%s is there already, and another lab of the name %q runs (process %d): take that down, or wait for its end", t.file, l.cfg.Name, others[0])
		}
		l.log.InfoContext(ctx, "removing what a lab that is gone has left", "what", t.file)
		if _, err := l.run(ctx, t.remove...); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o600)
}

// namesakes are the processes of other labs of this name.
func (l *Lab) namesakes() ([]int, error) {
	all, err := strays(l.nameMark())
	if err != nil {
		return nil, err
	}
	own, err := strays(l.mark())
	return slices.DeleteFunc(all, func(pid int) bool { return slices.Contains(own, pid) }), err
}
