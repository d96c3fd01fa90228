package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"

	"github.com/skerry-io/skerry/devices/opcua/channel"
)

// Config is what a session is created with.
type Config struct {
	Name    string // for the server's operators
	URI     string // our ApplicationUri, as in our certificate
	Timeout time.Duration
	User    User
	Token   *ua.UserTokenPolicy // of the endpoint, for User
	// Check sees the endpoints that the server tells under protection.
	Check func([]*ua.EndpointDescription) error
}

// Session is created once and may be moved to other channels. Its methods may be
// called from many goroutines; Activate is for one.
type Session struct {
	cfg        Config
	id, token  *ua.NodeID
	server     []byte // the certificate (DER) to which signatures go
	Timeout    time.Duration
	Operations *Operations

	mu      sync.Mutex // guards the following fields
	channel *channel.Channel
	nonce   []byte
}

// Create makes a session on a channel and activates it.
func Create(ctx context.Context, c *channel.Channel, cfg Config) (*Session, error) {
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce) // never fails
	own := c.Config()
	v, err := c.Request(ctx, &ua.CreateSessionRequest{
		ClientDescription: &ua.ApplicationDescription{
			ApplicationURI: cfg.URI, ProductURI: "urn:skerry", ApplicationName: ua.NewLocalizedText("Skerry"), ApplicationType: ua.ApplicationTypeClient,
		},
		EndpointURL: own.URL, SessionName: cfg.Name, ClientNonce: nonce, ClientCertificate: own.Certificate,
		RequestedSessionTimeout: float64(cfg.Timeout.Milliseconds()), MaxResponseMessageSize: own.MaxMessage,
	}, nil)
	if err != nil {
		return nil, err
	}
	r, ok := v.(*ua.CreateSessionResponse)
	if !ok {
		return nil, fmt.Errorf("CreateSession: %T for an answer", v)
	}
	if err := verifyServer(own, r, nonce); err != nil {
		return nil, fmt.Errorf("CreateSession: %w", err)
	}
	if cfg.Check != nil && own.Policy != ua.SecurityPolicyURINone {
		if err := cfg.Check(r.ServerEndpoints); err != nil {
			return nil, fmt.Errorf("CreateSession: %w", err)
		}
	}
	timeout := time.Duration(r.RevisedSessionTimeout) * time.Millisecond
	if timeout <= 0 || timeout > 24*time.Hour {
		timeout = cfg.Timeout
	}
	s := &Session{cfg: cfg, id: r.SessionID, token: r.AuthenticationToken, server: own.Server, Timeout: timeout, nonce: r.ServerNonce, channel: c, Operations: new(Operations)}
	if len(s.server) == 0 { // without security: a password may still be encrypted for it
		s.server = firstOf(r.ServerCertificate)
	}
	if err := s.Activate(ctx, c); err != nil {
		return nil, err
	}
	s.Operations.read(ctx, s)
	return s, nil
}

func firstOf(chain []byte) []byte {
	certs, err := x509.ParseCertificates(chain)
	if err != nil || len(certs) == 0 {
		return nil
	}
	return certs[0].Raw
}

// verifyServer wants a signature by the key of the certificate that the channel was
// opened for, and no other certificate.
func verifyServer(own channel.Config, r *ua.CreateSessionResponse, nonce []byte) error {
	if own.Policy == ua.SecurityPolicyURINone {
		return nil
	}
	if !bytes.Equal(firstOf(r.ServerCertificate), own.Server) {
		return fmt.Errorf("%w: another certificate than the channel's", channel.ErrSecurity)
	}
	if r.ServerSignature == nil || len(r.ServerNonce) < 32 {
		return fmt.Errorf("%w: no signature, or a nonce of %d bytes", channel.ErrSecurity, len(r.ServerNonce))
	}
	algo, err := algorithms(own.Policy, own.Key, own.Server)
	if err != nil {
		return err
	}
	if err := algo.VerifySignature(join(own.Certificate, nonce), r.ServerSignature.Signature); err != nil {
		return fmt.Errorf("%w: signature: %w", channel.ErrSecurity, err)
	}
	return nil
}

func algorithms(policy string, key *rsa.PrivateKey, server []byte) (*uapolicy.EncryptionAlgorithm, error) {
	cert, err := x509.ParseCertificate(server)
	if err != nil {
		return nil, fmt.Errorf("server's certificate: %w", err)
	}
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("server's certificate: the key is not RSA")
	}
	return uapolicy.Asymmetric(policy, key, public)
}

func join(a, b []byte) []byte { return append(append(make([]byte, 0, len(a)+len(b)), a...), b...) }

// Activate moves the session to a channel (Part 4, 5.6.3), the one it was created on
// or another with the same security.
func (s *Session) Activate(ctx context.Context, c *channel.Channel) error {
	s.mu.Lock()
	nonce := s.nonce
	s.mu.Unlock()
	own := c.Config()
	req := &ua.ActivateSessionRequest{ClientSignature: &ua.SignatureData{}, LocaleIDs: []string{"en"}, UserTokenSignature: &ua.SignatureData{}}
	if own.Policy != ua.SecurityPolicyURINone {
		algo, err := algorithms(own.Policy, own.Key, s.server)
		if err != nil {
			return err
		}
		signature, err := algo.Signature(join(s.server, nonce))
		if err != nil {
			return fmt.Errorf("ActivateSession: %w", err)
		}
		req.ClientSignature = &ua.SignatureData{Algorithm: algo.SignatureURI(), Signature: signature}
	}
	if err := s.cfg.User.identify(req, s.cfg.Token, own, s.server, nonce); err != nil {
		return err
	}
	v, err := c.Request(ctx, req, s.token)
	if err != nil {
		return err
	}
	r, ok := v.(*ua.ActivateSessionResponse)
	if !ok {
		return fmt.Errorf("ActivateSession: %T for an answer", v)
	}
	s.mu.Lock()
	s.channel, s.nonce = c, r.ServerNonce
	s.mu.Unlock()
	return nil
}

// Channel is the one that the session is on.
func (s *Session) Channel() *channel.Channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.channel
}

// Close ends the session at the server, and its subscriptions if asked to.
func (s *Session) Close(ctx context.Context, deleteSubscriptions bool) {
	_, _ = s.Channel().Request(ctx, &ua.CloseSessionRequest{DeleteSubscriptions: deleteSubscriptions}, s.token) // it times out by itself
}

// Do sends a request in the session and gives the answer of the type that is due.
func Do[T ua.Response](ctx context.Context, s *Session, req ua.Request) (T, error) {
	var none T
	v, err := s.Channel().Request(ctx, req, s.token)
	if err != nil {
		return none, err
	}
	r, ok := v.(T)
	if !ok {
		return none, fmt.Errorf("%s: %T for an answer", channel.Name(req), v)
	}
	return r, nil
}

// Lost reports whether an error says that the server does not know the session any
// more: a new one is needed, not only a new channel.
func Lost(err error) bool {
	var f *channel.Fault
	if !errors.As(err, &f) {
		return false
	}
	switch f.Status {
	case ua.StatusBadSessionIDInvalid, ua.StatusBadSessionClosed, ua.StatusBadSessionNotActivated, ua.StatusBadIdentityTokenInvalid,
		ua.StatusBadIdentityTokenRejected, ua.StatusBadUserAccessDenied, ua.StatusBadApplicationSignatureInvalid,
		ua.StatusBadUserSignatureInvalid, ua.StatusBadSecurityChecksFailed, ua.StatusBadNonceInvalid, ua.StatusBadIdentityChangeNotSupported:
		return true
	}
	return false
}

// Request sends a request in the session.
func (s *Session) Request(ctx context.Context, req ua.Request) (ua.Response, error) {
	return s.Channel().Request(ctx, req, s.token)
}
