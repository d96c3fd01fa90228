package link

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/quic-go/quic-go"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// ErrCanceled means that a lane was canceled, by either side.
var ErrCanceled = errors.New("lane was canceled")

// ConnError is why a connection ended. errors.Is finds net.ErrClosed in it.
type ConnError struct {
	// Code is the peer's or ours; for faults of the transport the nearest one.
	Code wire.Code
	// Text is for humans.
	Text string
	// Remote is true when the peer ended it.
	Remote bool
	// Application is true when a side ended it with Close, and not the carrier itself.
	Application bool
	// Untrusted is true when TLS failed: one side refused the other's certificate.
	Untrusted bool
}

// Error implements error.
func (e *ConnError) Error() string {
	who := "here"
	if e.Remote {
		who = "by the peer"
	}
	return fmt.Sprintf("connection closed %s: %s: %s", who, e.Code, e.Text)
}

// Unwrap makes errors.Is(err, net.ErrClosed) true.
func (e *ConnError) Unwrap() error { return net.ErrClosed }

// connError turns every error that means the end of the connection into a
// ConnError, and leaves those of the caller's own context as they are.
func connError(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var (
		app       *quic.ApplicationError
		transport *quic.TransportError
		idle      *quic.IdleTimeoutError
		handshake *quic.HandshakeTimeoutError
		reset     *quic.StatelessResetError
	)
	switch {
	case errors.As(err, &app):
		return &ConnError{Code: wire.Code(app.ErrorCode), Text: app.ErrorMessage, Remote: app.Remote, Application: true}
	case errors.As(err, &idle), errors.As(err, &handshake):
		return &ConnError{Code: wire.CodeOffline, Text: err.Error()}
	case errors.As(err, &reset):
		return &ConnError{Code: wire.CodeGoingAway, Text: "the peer lost its state", Remote: true}
	case errors.Is(err, quic.ErrTransportClosed), errors.Is(err, quic.ErrServerClosed):
		return &ConnError{Code: wire.CodeGoingAway, Text: err.Error()}
	case errors.As(err, &transport):
		e := &ConnError{Code: wire.CodeInternal, Text: err.Error(), Remote: transport.Remote}
		switch {
		case transport.ErrorCode.IsCryptoError():
			e.Untrusted = true
		case transport.ErrorCode == quic.ConnectionRefused:
			e.Code = wire.CodeTooMany
		case !transport.Remote:
			e.Code = wire.CodeProtocol // what quic-go itself objects to, it got from the peer
		}
		return e
	default:
		return &ConnError{Code: wire.CodeInternal, Text: err.Error()}
	}
}
