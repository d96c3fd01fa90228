package uplink

import (
	"context"
	"errors"
	"testing"
)

// The kernel must accept the subscription, and the watch must end with its context.
func TestWatchNetworkEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- WatchNetwork(ctx, func() {}) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}
