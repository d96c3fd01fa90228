package store

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// Errors that callers branch on.
var (
	// ErrNotFound says that nothing is stored under this key.
	ErrNotFound = errors.New("not found")
	// ErrLocked says that another process has the store open.
	ErrLocked = errors.New("the store is in use by another agent: stop it first, or give this one another state directory")
	// ErrCorrupt says that what is on the disk is not what was written. The next
	// Open sets it aside and carries over what the outbox had.
	ErrCorrupt = errors.New("the store is damaged")
	// ErrDiskFull says that the file system has no room left. It heals by itself
	// when there is room: Full, FullChanged and WaitRoom tell.
	ErrDiskFull = errors.New("no space left on the device that holds the store")
	// ErrKey says that the key that seals secrets is there and can't be had.
	ErrKey = errors.New("the key that seals the store's secrets can't be read: make it readable, or remove it, then the cloud sends the secrets again")
	// ErrTooLarge says that one entry exceeds the bound of its lane.
	ErrTooLarge = errors.New("entry exceeds the bound of the outbox")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store is closed")
)

// FormatError says that the store was written by a version of the agent whose
// records this one does not know.
type FormatError struct {
	Have, Want uint64
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("store has format %d, this agent knows %d: run the agent that wrote it, or move the directory away", e.Have, e.Want)
}

// classify joins err with the sentinel that tells an operator what to do.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pebble.ErrNotFound):
		return ErrNotFound
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrDiskFull), errors.Is(err, ErrLocked):
		return err
	case isFull(err):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// classifyLock tells a lock that is held from a directory that can't be used.
func classifyLock(err error) error {
	if errors.Is(err, syscall.EAGAIN) || strings.Contains(err.Error(), "held by current process") {
		return fmt.Errorf("%w: %w", ErrLocked, err)
	}
	return classify(err)
}

// fatalError is what pebbleLogger panics with.
type fatalError struct {
	text  string
	cause error
}

// Error implements error.
func (e *fatalError) Error() string { return e.text }

// Unwrap gives the error among the arguments of Fatalf, if there was one.
func (e *fatalError) Unwrap() error { return e.cause }

// pebbleLogger brings Pebble's words to slog. Pebble calls Fatalf when it can't
// go on and counts on not getting control back, so it panics: in a commit,
// Store.write recovers and fails the store; on a goroutine of Pebble the process
// ends, as it must, and the supervisor starts it again on the state on disk.
type pebbleLogger struct{ log *slog.Logger }

// Infof implements pebble.Logger.
func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble", "text", fmt.Sprintf(format, args...))
}

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "text", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	err := &fatalError{text: fmt.Sprintf(format, args...)}
	for _, a := range args {
		if cause, ok := a.(error); ok {
			err.cause = cause
		}
	}
	l.log.Error("pebble can't go on", "error", err)
	panic(err)
}
