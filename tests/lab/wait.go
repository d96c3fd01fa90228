package lab

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// finalError ends a wait at once.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// Final marks an error of a condition that waiting can't mend.
func Final(err error) error { return finalError{err} }

// Until polls cond ten times a second until it returns nil. When timeout or
// ctx are over it says what was waited for, and what cond said last.
func Until(ctx context.Context, timeout time.Duration, what string, cond func() error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return nil
		}
		if final := (finalError{}); errors.As(err, &final) {
			return final.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up waiting for %s after %v: %w", what, timeout, err)
		case <-tick.C:
		}
	}
}
