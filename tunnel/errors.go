package tunnel

import (
	"errors"
	"fmt"
	"net"

	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Errors that callers branch on.
var (
	// ErrTooManyStreams means that the peer allows no more open streams at the
	// moment; closing one makes room.
	ErrTooManyStreams = errors.New("too many open streams on this session")
	// ErrNoMemory means that the streams of this session, or of all sessions, hold
	// as much as they may; closing some makes room.
	ErrNoMemory = errors.New("the streams hold as many bytes as they may")
	// ErrUntrusted means that one side refused the other's certificate. Dialing
	// again does not help before a certificate changes.
	ErrUntrusted = errors.New("certificate was refused")
	// ErrStranger means that nobody answered by QUIC, and that who did by TCP showed a
	// certificate that was refused. It may be the cloud, or something in between: the
	// next attempt may find another.
	ErrStranger = errors.New("who answers by TCP has a certificate that was refused")
)

// SessionError is why a session ended or was refused. errors.Is finds
// net.ErrClosed in it, and ErrUntrusted where that was the reason.
type SessionError struct {
	Code wire.Code
	// Text is for humans.
	Text string
	// Remote is true when the peer ended it.
	Remote bool

	cause error
}

// Error implements error.
func (e *SessionError) Error() string {
	who := "here"
	if e.Remote {
		who = "by the peer"
	}
	return fmt.Sprintf("session ended %s: %s: %s", who, e.Code, e.Text)
}

// Unwrap gives net.ErrClosed and the cause.
func (e *SessionError) Unwrap() []error {
	if e.cause == nil {
		return []error{net.ErrClosed}
	}
	return []error{net.ErrClosed, e.cause}
}

// StreamError is why a stream ended before its end: one side reset it.
type StreamError struct {
	Code wire.Code
	// Remote is true when the peer reset it.
	Remote bool
}

// Error implements error.
func (e *StreamError) Error() string {
	who := "here"
	if e.Remote {
		who = "by the peer"
	}
	return fmt.Sprintf("stream was reset %s: %s", who, e.Code)
}

// final reports that an answer to a carrier means the session's end: asking again
// would not change it.
func (e *SessionError) final() bool {
	switch e.Code {
	case wire.CodeBadRequest, wire.CodeReplaced, wire.CodeRevoked, wire.CodeVersion, wire.CodeUnknownSession:
		return e.Remote
	default:
		return errors.Is(e, ErrUntrusted)
	}
}

// sessionError turns a carrier's end into a session's; other errors stay.
func sessionError(err error) error {
	var c *link.ConnError
	if !errors.As(err, &c) {
		return err
	}
	return newSessionError(c)
}

func newSessionError(c *link.ConnError) *SessionError {
	e := &SessionError{Code: c.Code, Text: c.Text, Remote: c.Remote}
	if c.Untrusted {
		e.cause = ErrUntrusted
	}
	return e
}
