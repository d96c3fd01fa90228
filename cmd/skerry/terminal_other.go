//go:build !unix

package main

import (
	"context"

	"golang.org/x/term"

	"github.com/skerry-io/skerry/edgeagent/local"
)

// terminalSizes tells the size of a terminal now; this system does not say when it
// changes.
func terminalSizes(_ context.Context, fd int) <-chan local.Size {
	sizes := make(chan local.Size, 1)
	if w, h, err := term.GetSize(fd); err == nil {
		sizes <- local.Size{Width: uint16(w), Height: uint16(h)}
	}
	return sizes
}
