package bootstrap

import (
	"errors"
	"fmt"
	"time"

	"github.com/skerry-io/skerry/certs"
)

// ErrJoined means that the directory holds the files of an earlier join.
var ErrJoined = errors.New("this machine has joined already")

// CAHashError means that the server's CA is not the pinned one.
type CAHashError struct {
	Server string
	Want   certs.CAHash
}

// Error says what to do.
func (e *CAHashError) Error() string {
	return fmt.Sprintf("the server at %s does not show a CA with the hash %s: either the command is for another cluster "+
		"(print a new one with `skerry token create`), or something on the way pretends to be the server", e.Server, e.Want)
}

// UntrustedError means that the pinned CA did not sign the server's certificate.
type UntrustedError struct {
	Server string
	Err    error
}

// Error says what to do.
func (e *UntrustedError) Error() string {
	return fmt.Sprintf("the server at %s can't be trusted (%v): something on the way may pretend to be it; nothing was sent", e.Server, e.Err)
}

// Unwrap gives what the verification said.
func (e *UntrustedError) Unwrap() error { return e.Err }

// NameError means that the server's certificate is not for the address dialled.
type NameError struct {
	Host string
	Err  error
}

// Error says what to do.
func (e *NameError) Error() string {
	return fmt.Sprintf("the server's certificate is not for %q (%v): join by one of those names, "+
		"or start cloudproxy with --advertise-address %s", e.Host, e.Err, e.Host)
}

// Unwrap gives what the verification said.
func (e *NameError) Unwrap() error { return e.Err }

// ClockError means that the server's certificate is outside its time by this
// machine's clock.
type ClockError struct {
	Now, NotBefore, NotAfter time.Time
}

// Early reports whether this machine's clock is before the certificate's time. The
// certificate exists, so the clock is late.
func (e *ClockError) Early() bool { return e.Now.Before(e.NotBefore) }

// Error says what to do.
func (e *ClockError) Error() string {
	now := e.Now.UTC().Format(time.RFC3339)
	if e.Early() {
		return fmt.Sprintf("the server's certificate is not yet valid: this machine's clock says %s, the certificate starts %s. "+
			"Set the clock (`timedatectl set-ntp true`) and join again", now, e.NotBefore.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("the server's certificate has expired: this machine's clock says %s, the certificate ended %s. "+
		"Set the clock if it is wrong, else look at cloudproxy's log for why it was not renewed", now, e.NotAfter.UTC().Format(time.RFC3339))
}

// RefusedError means that the proxy answered and said no.
type RefusedError struct {
	Code certs.EnrollCode
	Text string // the proxy's words
}

// Error says what to do.
func (e *RefusedError) Error() string {
	text := "the proxy refused: " + e.Text
	if hint := e.hint(); hint != "" {
		text += ". " + hint
	}
	return text
}

func (e *RefusedError) hint() string {
	switch e.Code {
	case certs.CodeUnauthorized:
		return "Check the token for a slip; if it was deleted, make a new one with `skerry token create`"
	case certs.CodeTokenExpired, certs.CodeTokenUsed:
		return "Make a new one with `skerry token create`"
	case certs.CodeTokenPurpose:
		return "Make a token for joining with `skerry token create`"
	case certs.CodeOtherNode:
		return "Join under that name (--node-name), or make a token without --node"
	default:
		return ""
	}
}

// UnreachableError means that no answer came from the proxy.
type UnreachableError struct {
	Server string
	Err    error
}

// Error says what to do.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no answer from https://%s (%v): check the address, and that TCP to this port is open on the way", e.Server, e.Err)
}

// Unwrap gives what went wrong last.
func (e *UnreachableError) Unwrap() error { return e.Err }
