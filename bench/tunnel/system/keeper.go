package system

import (
	"context"
	"net"
	"sync"
	"time"
)

// goodSession is how long a session must live for the next failure to count as
// the first, as in package uplink.
const goodSession = 10 * time.Second

// Keeper keeps one session alive as a user of a system has to: it dials again
// when the session dies, with the system's pauses.
type Keeper struct {
	System System
	Config Dial

	mu      sync.Mutex // guards the following fields
	session Session    // nil while there is none
	changed chan struct{}
	dials   int
}

// Run dials until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		begin := time.Now()
		s, err := k.System.Dial(ctx, k.Config)
		if err == nil {
			k.publish(s)
			select {
			case <-s.Done():
			case <-ctx.Done():
			}
			k.publish(nil)
			_ = s.Close() // it is dead, or nobody wants it
			if time.Since(begin) >= goodSession {
				failures = 0
			}
		}
		failures++
		select {
		case <-time.After(k.System.Backoff(failures, time.Since(begin))):
		case <-ctx.Done():
		}
	}
}

func (k *Keeper) publish(s Session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.session = s
	if s != nil {
		k.dials++
	}
	if k.changed != nil {
		close(k.changed)
		k.changed = nil
	}
}

// Dials is how many sessions there have been.
func (k *Keeper) Dials() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dials
}

// Open opens a stream, on the next session when there is none.
func (k *Keeper) Open(ctx context.Context, class Class) (net.Conn, error) {
	const pause = 50 * time.Millisecond // a session that can't open a stream is about to die
	for {
		k.mu.Lock()
		s := k.session
		if k.changed == nil {
			k.changed = make(chan struct{})
		}
		changed := k.changed
		k.mu.Unlock()
		var again <-chan time.Time
		if s != nil {
			if c, err := s.Open(ctx, class); err == nil {
				return c, nil
			}
			again = time.After(pause)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
