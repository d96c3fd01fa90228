package devices

import "time"

// Reasons of Health that all drivers share. A driver may have others, in the
// same form.
const (
	ReasonConnected    = "Connected"
	ReasonConnecting   = "Connecting"
	ReasonUnreachable  = "Unreachable"
	ReasonTimeout      = "Timeout"
	ReasonRefused      = "Refused"
	ReasonNotTrusted   = "CertificateNotTrusted"
	ReasonUserRejected = "UserRejected"
	ReasonNoSecret     = "SecretMissing"
	// ReasonProtocol: what the device sends is not its protocol.
	ReasonProtocol = "ProtocolError"
)

// Health is how a device is, as its driver sees it.
type Health struct {
	// Connected says whether values can be read and written now.
	Connected bool
	// Reason is one word in CamelCase, never empty, for condition Connected.
	Reason string
	// Message is for people, up to 512 bytes.
	Message string
	// Since is when Connected became what it is; zero is now, unless it was so
	// before.
	Since time.Time
	// Fingerprint is that of a certificate which was rejected: SHA-256 of the
	// DER bytes, hexadecimal. "" is none.
	Fingerprint string
	// Degraded is the reason, in CamelCase, of what is wrong with a device that
	// is connected or not: refused items, a slow bus. "" is nothing.
	Degraded string
	// DegradedMessage is for people.
	DegradedMessage string
	// Counters are the driver's own, by names of its choice that are few and
	// don't depend on the device: "republished", "timeouts". They only grow
	// while the process lives. Metrics show them.
	Counters map[string]uint64
}
