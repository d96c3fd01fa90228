package link

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// Alerts of RFC 8446, section 6.
const (
	alertNoApplicationProtocol = 120
	alertInternal              = 80
)

// distrust reports whether a TLS alert says that the certificate, or the way in
// which it was offered, was refused.
func distrust(alert uint8) bool {
	switch alert {
	case 40, 42, 43, 44, 45, 46, 48, 49, 51, // handshake_failure, what is wrong with certificates, decrypt_error
		70, 71, 112, 116: // protocol_version, insufficient_security, unrecognized_name, certificate_required
		return true
	}
	return false
}

// remoteAlert finds the peer's alert. crypto/tls gives it as a number of a type
// that it does not export, with the text of one that it does.
func remoteAlert(err error) (alert uint8, ok bool) {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return 0, false
	}
	for a := range uint8(255) {
		if tls.AlertError(a).Error() == op.Err.Error() {
			return a, true
		}
	}
	return alertInternal, true
}

// tlsError turns an error of a connection whose handshake is done, as far as this
// side goes, into a ConnError.
func tlsError(err error) *ConnError {
	if e, ok := errors.AsType[*ConnError](err); ok {
		return e
	}
	if alert, ok := remoteAlert(err); ok {
		e := &ConnError{Code: wire.CodeInternal, Text: err.Error(), Remote: true, Untrusted: distrust(alert)}
		if alert == alertNoApplicationProtocol {
			e.Code = wire.CodeUnsupported
		}
		return e
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &ConnError{Code: wire.CodeOffline, Text: "the connection ended without a goodbye"}
	case broken(err):
		return &ConnError{Code: wire.CodeOffline, Text: err.Error()}
	default:
		return &ConnError{Code: wire.CodeProtocol, Text: err.Error()} // what crypto/tls objects to
	}
}

// handshakeError is tlsError for a handshake: what crypto/tls objects to there,
// and what our own checks of the certificate say, is about trust.
func handshakeError(err error) *ConnError {
	e := tlsError(err)
	if _, garbage := errors.AsType[tls.RecordHeaderError](err); e.Code == wire.CodeProtocol && !garbage {
		e.Code, e.Untrusted = wire.CodeInternal, true
	}
	return e
}

// broken tells faults of the network from those of TLS.
func broken(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op != "local error" {
		return true
	}
	_, number := errors.AsType[syscall.Errno](err) // wrapped by something else
	return number || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrDeadlineExceeded)
}
