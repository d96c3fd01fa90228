// Package bed is the network that the bench measures on: lanes, each of two
// network namespaces joined by a link emulator of its own, so that several
// systems feel the same link at the same time and not each other. It needs root.
//
// Everything that it makes has a name that begins with skb. One bed at a time
// can be on a machine; it removes what a killed one has left.
package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

const (
	prefix = "skb-"
	// lockFile keeps two beds apart, wherever their directories are.
	lockFile = "/run/lock/skerry-bench-tunnel"
	// MaxLanes is how many lanes have a network of their own.
	MaxLanes = 64
)

// Config is what a bed needs.
type Config struct {
	// Dir is for sockets and logs; it is made.
	Dir string
	// Linkemu is the emulator's program.
	Linkemu string
}

// Bed has the lanes.
type Bed struct {
	cfg  Config
	lock *os.File
	log  *os.File // of emulators and agents

	mu    sync.Mutex // guards the following fields
	free  []*Lane
	lanes []*Lane
}

// New makes a bed without lanes, after it has removed what is left of others.
func New(ctx context.Context, cfg Config) (*Bed, error) {
	if _, err := os.Stat(cfg.Linkemu); err != nil {
		return nil, fmt.Errorf("link emulator: %w (make build builds it)", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w: another bench of the tunnel runs", lockFile, err), lock.Close())
	}
	log, err := os.Create(filepath.Join(cfg.Dir, "processes.log"))
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	b := &Bed{cfg: cfg, lock: lock, log: log}
	if err := b.sweep(ctx); err != nil {
		return nil, errors.Join(err, log.Close(), lock.Close())
	}
	return b, nil
}

// Log is where the processes write what they have to say.
func (b *Bed) Log() io.Writer { return b.log }

// Take gives a lane that nobody uses.
func (b *Bed) Take(ctx context.Context) (*Lane, error) {
	b.mu.Lock()
	if n := len(b.free); n > 0 {
		l := b.free[n-1]
		b.free = b.free[:n-1]
		b.mu.Unlock()
		return l, nil
	}
	if len(b.lanes) == MaxLanes {
		b.mu.Unlock()
		return nil, fmt.Errorf("more than %d lanes", MaxLanes)
	}
	l := &Lane{bed: b, n: len(b.lanes) + 1}
	b.lanes = append(b.lanes, l)
	b.mu.Unlock()
	return l, l.up(ctx)
}

// Give takes a lane back.
func (b *Bed) Give(l *Lane) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, l)
}

// Close removes everything.
func (b *Bed) Close(ctx context.Context) error {
	var errs []error
	for _, l := range b.lanes {
		errs = append(errs, l.down())
	}
	return errors.Join(append(errs, b.sweep(ctx), b.log.Close(), b.lock.Close())...)
}

// sweep removes the namespaces of this bed, and of one that was killed. Their
// devices go with them.
func (b *Bed) sweep(ctx context.Context) error {
	out, err := output(ctx, "", "ip", "netns", "list")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		_, err := output(ctx, "", "ip", "netns", "del", name)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
