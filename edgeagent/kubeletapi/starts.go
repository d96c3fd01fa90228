package kubeletapi

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

const (
	// maxStarting is how many commands start at the same time. The containerd shim of a
	// pod falls behind its own events when more come at once, and then each takes a
	// second: with containerd 1.6 and two cores 64 commands in one container took
	// 2.1 s by 16 at a time, 3.3 s by 8, and 31 s by 24.
	maxStarting = 8
	// startLease is how long a command that says nothing counts as one that starts.
	startLease = time.Second
)

// starts lets few commands start at a time. It holds one item for each.
type starts chan struct{}

// begin waits for the command's turn, which ends with its first output, with done, or
// after startLease.
func (s starts) begin(ctx context.Context, o *cri.ExecOptions) (done func(), err error) {
	select {
	case s <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	end := sync.OnceFunc(func() { <-s })
	lease := time.AfterFunc(startLease, end)
	for _, w := range []*io.Writer{&o.Stdout, &o.Stderr} {
		if *w != nil {
			*w = &firstWord{*w, end}
		}
	}
	return func() {
		lease.Stop()
		end()
	}, nil
}

// firstWord tells of the first thing that is written.
type firstWord struct {
	io.Writer

	heard func()
}

// Write implements io.Writer.
func (w *firstWord) Write(b []byte) (int, error) {
	w.heard()
	return w.Writer.Write(b) //nolint:wrapcheck // it is the same writer to whoever writes
}
