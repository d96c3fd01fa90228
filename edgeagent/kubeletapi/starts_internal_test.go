package kubeletapi

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// crowd are commands that want to start at the same time.
type crowd struct {
	starts starts

	mu    sync.Mutex // guards the following fields
	began int
	done  []func()
	outs  []io.Writer
}

func (c *crowd) come(t *testing.T, n int) {
	t.Helper()
	for range n {
		go func() {
			o := cri.ExecOptions{Stdout: io.Discard, Stderr: io.Discard}
			done, err := c.starts.begin(t.Context(), &o)
			if err != nil {
				t.Error(err)
				return
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.began++
			c.done, c.outs = append(c.done, done), append(c.outs, o.Stdout, o.Stderr)
		}()
		synctest.Wait()
	}
}

func (c *crowd) want(t *testing.T, n int, when string) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began != n {
		t.Errorf("%d commands have started %s, want %d", c.began, when, n)
	}
}

func TestCommandsStartFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{starts: make(starts, maxStarting)}
		c.come(t, maxStarting+3)
		c.want(t, maxStarting, "at once")
		if _, err := c.outs[0].Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
		c.want(t, maxStarting+1, "after one has said something")
		c.done[0]() // it has had its turn
		c.want(t, maxStarting+1, "after that one has ended")
		if _, err := c.outs[3].Write([]byte("a")); err != nil { // standard error of another
			t.Fatal(err)
		}
		c.want(t, maxStarting+2, "after another one has said something")
		c.done[2]()
		c.want(t, maxStarting+3, "after one has ended in silence")

		late, cancel := context.WithCancelCause(t.Context())
		cancel(errStreamEnded)
		if _, err := c.starts.begin(late, &cri.ExecOptions{}); !errors.Is(err, errStreamEnded) {
			t.Errorf("error %v of a command whose stream has ended", err)
		}
		for _, done := range c.done {
			done()
		}
	})
}

func TestSilentCommandsHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{starts: make(starts, maxStarting)}
		c.come(t, 2*maxStarting)
		<-time.After(startLease - time.Millisecond)
		c.want(t, maxStarting, "before the lease is over")
		<-time.After(2 * time.Millisecond)
		c.want(t, 2*maxStarting, "after it")
		for _, done := range c.done {
			done()
		}
		if len(c.starts) != 0 {
			t.Errorf("%d turns are never given back", len(c.starts))
		}
	})
}
