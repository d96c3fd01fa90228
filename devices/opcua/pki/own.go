package pki

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	keyBits = 2048 // what every policy takes, and what a small gateway can do
	// ownLife is long: each new certificate must be trusted by hand at each server.
	ownLife = 10 * 365 * 24 * time.Hour
)

// Own is this edge's application instance certificate.
type Own struct {
	Certificate []byte // DER
	Key         *rsa.PrivateKey
	URI         string // the ApplicationUri, which the certificate has as a SAN
}

// loadOwn reads the certificate, or makes one if there is none, or it is over.
func loadOwn(dir, name string) (*Own, error) {
	certFile, keyFile := filepath.Join(dir, "own", "cert.der"), filepath.Join(dir, "own", "key.pem")
	der, err := os.ReadFile(certFile)
	if errors.Is(err, fs.ErrNotExist) {
		return makeOwn(certFile, keyFile, name)
	}
	if err != nil {
		return nil, fmt.Errorf("own certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("own certificate %s: %w; remove it for a new one, which servers must trust again", certFile, err)
	}
	if len(cert.URIs) == 0 {
		return nil, fmt.Errorf("own certificate %s has no application URI; remove it for a new one, which servers must trust again", certFile)
	}
	if time.Now().After(cert.NotAfter) {
		return makeOwn(certFile, keyFile, name)
	}
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("own key: %w", err)
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("own key %s: %w", keyFile, err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("own key %s is not that of %s; remove both for new ones, which servers must trust again", keyFile, certFile)
	}
	return &Own{der, key, cert.URIs[0].String()}, nil
}

// ParseKey reads an RSA key, PEM of PKCS #1 or #8.
func ParseKey(text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not PEM")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T, OPC UA needs RSA", parsed)
	}
	return key, nil
}

func makeOwn(certFile, keyFile, name string) (*Own, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, err
	}
	uri := &url.URL{Scheme: "urn", Opaque: "skerry:edge:" + url.PathEscape(name)}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Skerry edge " + name, Organization: []string{"Skerry"}},
		NotBefore:    time.Now().Add(-24 * time.Hour), // clocks of devices differ
		NotAfter:     time.Now().Add(ownLife),
		// Part 6, 6.2.2.
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{uri},
		DNSNames:              []string{name},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	// The key first: a certificate without its key would stop the next start.
	for _, f := range []struct {
		name string
		data []byte
		mode fs.FileMode
	}{{keyFile, text, 0o600}, {certFile, der, 0o644}} {
		if err := writeFile(f.name, f.data, f.mode); err != nil {
			return nil, fmt.Errorf("keep own certificate: %w", err)
		}
	}
	return &Own{der, key, uri.String()}, nil
}

// writeFile writes whole or not at all.
func writeFile(name string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // not there any more, if all went well
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
