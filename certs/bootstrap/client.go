package bootstrap

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/skerry-io/skerry/certs"
)

const (
	attempts         = 5
	firstWait        = 2 * time.Second // doubles: 2, 4, 8, 16
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 15 * time.Second
	attemptTimeout   = 45 * time.Second
)

// enroll asks until there is an answer that trying again would not change.
func enroll(ctx context.Context, cfg Config, req certs.EnrollRequest) (certs.EnrollResponse, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return certs.EnrollResponse{}, fmt.Errorf("encode request: %w", err)
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: handshakeTimeout,
		TLSClientConfig:     pinned(cfg),
		DisableKeepAlives:   true,
	}
	client := &http.Client{
		Transport: transport,
		// The body holds the token: it goes to the verified server only.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	wait := firstWait
	for try := 1; ; try++ {
		cfg.Progress("asking https://" + cfg.Server + " for a certificate")
		resp, err := post(ctx, client, cfg, body)
		if err != nil && ctx.Err() != nil {
			return certs.EnrollResponse{}, fmt.Errorf("interrupted while asking %s: %w", cfg.Server, ctx.Err())
		}
		if err == nil || !temporary(err) || try == attempts {
			return resp, err
		}
		cfg.Progress(fmt.Sprintf("%v; next try in %s", brief(err), wait))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return certs.EnrollResponse{}, fmt.Errorf("interrupted before the next try: %w; the last one: %w", ctx.Err(), err)
		case <-timer.C:
		}
		wait *= 2
	}
}

func temporary(err error) bool {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Code.Temporary()
	}
	var unreachable *UnreachableError
	return errors.As(err, &unreachable)
}

// brief leaves out the advice that comes with the last error only.
func brief(err error) error {
	if unreachable, ok := errors.AsType[*UnreachableError](err); ok {
		return unreachable.Err
	}
	return err
}

// pinned verifies by the hash: the chain must show a CA with it, and the leaf must
// be a proxy's, signed by that CA, for the host dialled, now. crypto/tls can't do
// that by itself, because the CA is not known before the handshake.
func pinned(cfg Config) *tls.Config {
	host, _, err := net.SplitHostPort(cfg.Server)
	if err != nil {
		host = cfg.Server // check has seen to it
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         host,
		InsecureSkipVerify: true, // VerifyConnection does all of it
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyPinned(cfg, host, state.PeerCertificates, time.Now())
		},
	}
}

func verifyPinned(cfg Config, host string, chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return &UntrustedError{cfg.Server, errors.New("it showed no certificate")}
	}
	roots, found := x509.NewCertPool(), []*x509.Certificate{}
	for _, cert := range chain[1:] {
		if cfg.CAHash.Matches(cert) {
			roots.AddCert(cert)
			found = append(found, cert)
		}
	}
	if len(found) == 0 {
		return &CAHashError{Server: cfg.Server, Want: cfg.CAHash}
	}
	leaf := chain[0]
	verify := func(at time.Time) error {
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, DNSName: host, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		return err
	}
	err := verify(now)
	if err == nil {
		if id, err := certs.CertificateIdentity(leaf); err != nil || !id.IsProxy() {
			return &UntrustedError{cfg.Server, errors.New("its certificate is not a cloud proxy's")}
		}
		return nil
	}
	// The time is looked at before the signature. It is a matter of clocks only if
	// the chain is good at its own time; a forgery is not.
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		start := later(leaf.NotBefore, found[0].NotBefore)
		if err = verify(start); err == nil {
			return &ClockError{Now: now, NotBefore: start, NotAfter: leaf.NotAfter}
		}
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return &NameError{Host: host, Err: err}
	}
	return &UntrustedError{cfg.Server, err}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func post(ctx context.Context, client *http.Client, cfg Config, body []byte) (certs.EnrollResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	var out certs.EnrollResponse
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+cfg.Server+certs.EnrollPath, bytes.NewReader(body))
	if err != nil {
		return out, fmt.Errorf("server %q: %w", cfg.Server, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return out, classify(cfg, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read, or the read failed
	data, err := io.ReadAll(io.LimitReader(resp.Body, certs.MaxEnrollBody+1))
	if err != nil {
		return out, &UnreachableError{cfg.Server, err}
	}
	if len(data) > certs.MaxEnrollBody {
		return out, fmt.Errorf("the answer of %s is larger than %d bytes", cfg.Server, certs.MaxEnrollBody)
	}
	if resp.StatusCode != http.StatusOK {
		return out, refusal(resp, data)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, fmt.Errorf("the answer of %s can't be read: %w", cfg.Server, err)
	}
	return out, nil
}

func refusal(resp *http.Response, data []byte) error {
	var no certs.EnrollRefusal
	if err := json.Unmarshal(data, &no); err != nil || no.Code == "" {
		return &RefusedError{Text: fmt.Sprintf("HTTP status %s; is this the address of a Skerry cloud proxy?", resp.Status)}
	}
	return &RefusedError{Code: no.Code, Text: printable(no.Text)}
}

// printable keeps a server from driving the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// classify finds our own verdict under what crypto/tls and net/http wrapped round
// it; everything else is a matter of the network.
func classify(cfg Config, err error) error {
	var (
		hash  *CAHashError
		clock *ClockError
		name  *NameError
		outer *url.Error
		trust *UntrustedError
	)
	switch {
	case errors.As(err, &hash):
		return hash
	case errors.As(err, &clock):
		return clock
	case errors.As(err, &name):
		return name
	case errors.As(err, &trust):
		return trust
	case errors.As(err, &outer):
		err = outer.Err // its text would say the URL twice
	}
	return &UnreachableError{cfg.Server, err}
}
