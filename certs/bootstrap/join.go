package bootstrap

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/skerry-io/skerry/certs"
)

// Config is what Join needs.
type Config struct {
	// Server is the proxy's HOST:PORT. Required.
	Server string
	// Token is the join token. Required.
	Token string
	// CAHash pins the CA. Required: without it anybody on the path could be the proxy.
	CAHash certs.CAHash
	// NodeName is the name to join under. Required.
	NodeName string
	// Dir takes edgeagent.yaml and pki/. Required.
	Dir string
	// AgentConfig is the text of edgeagent.yaml. Required.
	AgentConfig []byte
	// AgentVersion is told to the proxy, for its log.
	AgentVersion string
	// Replace allows Dir to hold the files of an earlier join.
	Replace bool
	// Progress is told what happens, one line each; nil means nobody listens.
	Progress func(line string)
}

// Result says what Join made.
type Result struct {
	Identity certs.Identity
	NotAfter time.Time
	Files    []string
}

func (c Config) check() (Config, error) {
	host, port, err := net.SplitHostPort(c.Server)
	switch {
	case err != nil || host == "" || port == "":
		return c, fmt.Errorf("server %q is not HOST:PORT", c.Server)
	case c.Token == "":
		return c, errors.New("token is empty")
	case c.CAHash == certs.CAHash{}:
		return c, errors.New("ca hash is missing")
	case c.Dir == "":
		return c, errors.New("configuration directory is missing")
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	return c, certs.ValidateNodeName(c.NodeName)
}

// Joined reports whether dir holds the files of a join.
func Joined(dir string) bool {
	for _, name := range []string{configFile, filepath.Join(pkiDir, certFile)} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// Join gets this machine its certificate and writes its files. What callers may
// branch on: ErrJoined, *CAHashError, *UntrustedError, *NameError, *ClockError, *RefusedError,
// *UnreachableError. After an error Dir is as it was.
func Join(ctx context.Context, cfg Config) (Result, error) {
	cfg, err := cfg.check()
	if err != nil {
		return Result{}, err
	}
	if !cfg.Replace && Joined(cfg.Dir) {
		return Result{}, fmt.Errorf("%w: %s", ErrJoined, cfg.Dir)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Result{}, fmt.Errorf("make key: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Result{}, fmt.Errorf("encode key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return Result{}, fmt.Errorf("make certificate request: %w", err)
	}
	// The same request on every try: the proxy lets the key that paid for a use
	// of the token ask again when the answer got lost.
	resp, err := enroll(ctx, cfg, certs.EnrollRequest{
		Token:        cfg.Token,
		NodeName:     cfg.NodeName,
		CSR:          string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
		AgentVersion: cfg.AgentVersion,
		OS:           runtime.GOOS,
		Arch:         runtime.GOARCH,
	})
	if err != nil {
		return Result{}, err
	}
	leaf, err := checkResponse(cfg, resp, &key.PublicKey, time.Now())
	if err != nil {
		return Result{}, fmt.Errorf("the proxy's answer is not usable: %w", err)
	}
	cfg.Progress("got a certificate, valid until " + leaf.NotAfter.UTC().Format(time.RFC3339))
	files, err := install(cfg, fileSet{
		ca:   []byte(resp.CA),
		cert: []byte(resp.Certificate),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		yaml: cfg.AgentConfig,
	})
	if err != nil {
		return Result{}, err
	}
	return Result{Identity: certs.Identity{Cluster: resp.Cluster, Node: resp.NodeName}, NotAfter: leaf.NotAfter, Files: files}, nil
}

// checkResponse verifies what came over a connection that was verified already: a
// proxy with a bug must not leave a machine with files that never connect.
func checkResponse(cfg Config, resp certs.EnrollResponse, key *ecdsa.PublicKey, now time.Time) (*x509.Certificate, error) {
	cas, err := certs.ParseBundle([]byte(resp.CA))
	if err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	roots, pinned := x509.NewCertPool(), false
	for _, ca := range cas {
		if !ca.IsCA {
			return nil, errors.New("the CA bundle holds a certificate that is no CA")
		}
		pinned = pinned || cfg.CAHash.Matches(ca)
		roots.AddCert(ca)
	}
	if !pinned {
		return nil, errors.New("the CA bundle does not hold the pinned CA")
	}
	leaves, err := certs.ParseBundle([]byte(resp.Certificate))
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	leaf := leaves[0]
	if !key.Equal(leaf.PublicKey) {
		return nil, errors.New("the certificate is for another key")
	}
	// Signed this second by another machine's clock: a few seconds in the future
	// are no fault. The handshake before has found any real skew.
	if now.Before(leaf.NotBefore) {
		now = leaf.NotBefore
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	id, err := certs.CertificateIdentity(leaf)
	if err != nil {
		return nil, err
	}
	if want := (certs.Identity{Cluster: resp.Cluster, Node: cfg.NodeName}); id != want || resp.NodeName != cfg.NodeName {
		return nil, fmt.Errorf("the certificate is for %s, want %s", id, want)
	}
	return leaf, nil
}
