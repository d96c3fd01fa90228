package uplink

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Waits between streams that fail while the session lives. The session's own
// backoff is another.
const (
	minStreamWait = 500 * time.Millisecond
	maxStreamWait = 30 * time.Second
)

// Dialer opens streams to the cloud; *Uplink is one. Dial waits for a session
// until ctx ends.
type Dialer interface {
	Dial(ctx context.Context, kind wire.Kind) (net.Conn, error)
}

// changer is a Dialer that says when there may be another session: its streams need
// not wait for what became of the last one's. *Uplink is one.
type changer interface{ Changed() <-chan struct{} }

// Keeper keeps one stream open, again and again. All fields but Log are required.
type Keeper struct {
	Dialer Dialer
	Kind   wire.Kind
	// Serve works on one stream until it fails, and closes it. It reports whether
	// the stream was of use: then the next one comes soon.
	Serve func(ctx context.Context, conn net.Conn) (useful bool, err error)
	// Failed gives what makes further streams useless; it ends Run.
	Failed func() error
	// Log is told of each stream that ends. Nil discards.
	Log *slog.Logger
}

// Run returns nil when ctx has ended, or what Failed gives.
func (k *Keeper) Run(ctx context.Context) error {
	log := k.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	wait := minStreamWait
	for {
		var changed <-chan struct{}
		if d, ok := k.Dialer.(changer); ok {
			changed = d.Changed()
		}
		useful := false
		conn, err := k.Dialer.Dial(ctx, k.Kind)
		if err == nil {
			useful, err = k.Serve(ctx, conn)
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop, whatever the stream says about it
		}
		if failed := k.Failed(); failed != nil {
			return failed
		}
		if useful {
			wait = minStreamWait
		}
		level := slog.LevelInfo
		if _, ended := errors.AsType[*tunnel.SessionError](err); ended {
			level = slog.LevelDebug // the uplink has said so
		}
		log.Log(ctx, level, "stream ended", "kind", k.Kind.String(), "error", err, "wait", wait)
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-changed:
			wait = minStreamWait
			continue
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, maxStreamWait)
	}
}
