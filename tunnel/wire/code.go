package wire

import "fmt"

// Code is the reason why a stream or a session ended, or a request failed. It
// crosses the wire as a number, with text for humans beside it.
type Code uint64

// Codes. Numbers are never reused.
const (
	// CodeOK ends a session or stream that has done its work.
	CodeOK Code = 0
	// CodeInternal is a fault of the side that sends it.
	CodeInternal Code = 1
	// CodeProtocol is a fault of the peer: bytes that break PROTOCOL.md.
	CodeProtocol Code = 2
	// CodeUnsupported refuses a stream kind, a frame or a feature; an older peer sends it.
	CodeUnsupported Code = 3
	// CodeNotFound says that the pod, container or object is not at this edge.
	CodeNotFound Code = 4
	// CodeNotRunning says that the container exists and does not run.
	CodeNotRunning Code = 5
	// CodeBadRequest says that the request can't be carried out as it is.
	CodeBadRequest Code = 6
	// CodeTooMany says that a bound was reached; the caller may try again later.
	CodeTooMany Code = 7
	// CodeOffline says that the edge has no session.
	CodeOffline Code = 8
	// CodeCanceled says that the caller went away.
	CodeCanceled Code = 9
	// CodeReplaced ends a session because a newer one of the same edge took its place.
	CodeReplaced Code = 10
	// CodeRevoked ends or refuses a session because the edge's identity was revoked.
	CodeRevoked Code = 11
	// CodeGoingAway ends a session because this side shuts down; dial again.
	CodeGoingAway Code = 12
	// CodeVersion refuses a session because the versions have nothing in common.
	CodeVersion Code = 13
	// CodeUnknownSession refuses a carrier for a session that has ended or was never
	// here; begin a new one.
	CodeUnknownSession Code = 14
	// CodeNextCarrier ends a carrier, and not its session, which goes on over another.
	CodeNextCarrier Code = 15
)

type codeInfo struct {
	text   string
	status int
}

// info is the one table that gives codes their text and HTTP status.
func (c Code) info() (codeInfo, bool) {
	i, ok := map[Code]codeInfo{
		CodeOK:          {"ok", 200},
		CodeInternal:    {"internal error", 500},
		CodeProtocol:    {"protocol error", 502},
		CodeUnsupported: {"not supported by the peer", 501},
		CodeNotFound:    {"not found", 404},
		CodeNotRunning:  {"not running", 400},
		CodeBadRequest:  {"bad request", 400},
		CodeTooMany:     {"too many requests", 429},
		CodeOffline:     {"edge is offline", 503},
		CodeCanceled:    {"canceled", 499},
		CodeReplaced:    {"replaced by a newer session", 503},
		CodeRevoked:     {"identity was revoked", 403},
		CodeGoingAway:   {"peer is shutting down", 503},
		CodeVersion:     {"no protocol version in common", 505},

		CodeUnknownSession: {"session is not known here", 503},
		CodeNextCarrier:    {"the session goes on over another carrier", 503},
	}[c]
	return i, ok
}

// String gives the code's text for humans.
func (c Code) String() string {
	if i, ok := c.info(); ok {
		return i.text
	}
	return fmt.Sprintf("code %d", uint64(c))
}

// HTTPStatus maps the code to the status that an HTTP client is answered with;
// codes of a newer peer give 500.
func (c Code) HTTPStatus() int {
	if i, ok := c.info(); ok {
		return i.status
	}
	return 500
}
