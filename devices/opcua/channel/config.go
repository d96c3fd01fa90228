package channel

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"
)

// Config says what a channel is to be.
type Config struct {
	// URL is the endpoint as the server names it, sent in Hello.
	URL string
	// Policy is the URI of the security policy, Mode how messages are protected.
	Policy string
	Mode   ua.MessageSecurityMode
	// Certificate (DER, a chain begins with the leaf) and Key are our own; not
	// needed for the policy None.
	Certificate []byte
	Key         *rsa.PrivateKey
	// Server is the server's certificate (DER, leaf), which somebody has verified:
	// the server must prove that it has its key.
	Server []byte
	// Lifetime of a token; 0 means an hour. It is renewed at three quarters.
	Lifetime time.Duration
	// Timeout of opening and renewing, and of requests whose context has no
	// deadline; 0 means 10 s.
	Timeout time.Duration
	// MaxMessage bounds what the server may send in one message; 0 means 16 MB.
	MaxMessage uint32
}

const (
	bufferSize        = 0xffff // of one chunk, either way
	leastBuffer       = 8192   // Part 6, 7.1.2.3
	defaultMaxMessage = 16 << 20
	maxPending        = 4096 // requests that wait for their answers
)

// Errors that callers branch on.
var (
	// ErrClosed is in the chain when the channel has ended.
	ErrClosed = errors.New("secure channel closed")
	// ErrSecurity is in the chain when the server could not prove what it must.
	ErrSecurity = errors.New("security check failed")
	// ErrTooLarge is in the chain when a request exceeds what the server takes: the
	// caller may send less at once. The channel lives.
	ErrTooLarge = errors.New("request larger than the server takes")
)

// Fault is a server's refusal of one request (ServiceFault or a bad
// ServiceResult).
type Fault struct {
	Service string // the request's name
	Status  ua.StatusCode
}

func (f *Fault) Error() string { return fmt.Sprintf("%s: %v", f.Service, f.Status) }

// Unwrap lets errors.Is compare with a StatusCode.
func (f *Fault) Unwrap() error { return f.Status }

func (c Config) withDefaults() (Config, error) {
	if c.Lifetime == 0 {
		c.Lifetime = time.Hour
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = defaultMaxMessage
	}
	secure := c.Policy != ua.SecurityPolicyURINone
	switch {
	case secure != (c.Mode == ua.MessageSecurityModeSign || c.Mode == ua.MessageSecurityModeSignAndEncrypt):
		return c, fmt.Errorf("security mode %v does not go with policy %q", c.Mode, c.Policy)
	case secure && (c.Key == nil || len(c.Certificate) == 0 || len(c.Server) == 0):
		return c, fmt.Errorf("policy %q needs our certificate and key, and the server's certificate", c.Policy)
	}
	return c, nil
}
