//go:build unix

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/skerry-io/skerry/edgeagent/local"
)

// terminalSizes tells the size of a terminal now and whenever it changes, until
// ctx ends.
func terminalSizes(ctx context.Context, fd int) <-chan local.Size {
	sizes := make(chan local.Size, 1)
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		defer signal.Stop(changed)
		defer close(sizes)
		for {
			if w, h, err := term.GetSize(fd); err == nil {
				select {
				case sizes <- local.Size{Width: uint16(w), Height: uint16(h)}:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return sizes
}
