package uplink_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// dialFunc is a Dialer.
type dialFunc func(ctx context.Context, kind wire.Kind) (net.Conn, error)

func (f dialFunc) Dial(ctx context.Context, kind wire.Kind) (net.Conn, error) { return f(ctx, kind) }

func pipeDialer() dialFunc {
	return func(context.Context, wire.Kind) (net.Conn, error) {
		near, far := net.Pipe()
		return near, far.Close()
	}
}

func TestKeeperWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		useful := map[int]bool{3: true}
		var at []time.Time
		ctx, cancel := context.WithCancel(t.Context())
		k := uplink.Keeper{
			Dialer: pipeDialer(), Kind: wire.KindReport,
			Failed: func() error { return nil },
			Serve: func(_ context.Context, conn net.Conn) (bool, error) {
				if at = append(at, time.Now()); len(at) == 12 {
					cancel()
				}
				return useful[len(at)], conn.Close()
			},
		}
		if err := k.Run(ctx); err != nil {
			t.Fatal(err)
		}
		// The bounds of the wait after each stream: it doubles up to 30 s, starts anew
		// after a useful stream, and is drawn from half to one and a half of it.
		wait := 500 * time.Millisecond
		for i := 1; i < len(at); i++ {
			if useful[i] {
				wait = 500 * time.Millisecond
			}
			if got := at[i].Sub(at[i-1]); got < wait/2 || got > wait*3/2 {
				t.Errorf("after stream %d: waited %v, want %v give or take a half", i, got, wait)
			}
			wait = min(2*wait, 30*time.Second)
		}
	})
}

func TestKeeperEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		k := uplink.Keeper{
			Dialer: pipeDialer(), Kind: wire.KindDesired,
			Failed: func() error { return broken },
			Serve:  func(_ context.Context, conn net.Conn) (bool, error) { return true, conn.Close() },
		}
		if err := k.Run(t.Context()); !errors.Is(err, broken) {
			t.Errorf("got %v, want what Failed gives", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		k.Dialer = dialFunc(func(ctx context.Context, _ wire.Kind) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		time.AfterFunc(time.Hour, cancel)
		if err := k.Run(ctx); err != nil {
			t.Errorf("told to stop while there is no session: %v", err)
		}
	})
}
