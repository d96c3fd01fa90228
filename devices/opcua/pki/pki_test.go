package pki_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices/opcua/pki"
)

const uri = "urn:plant:server"

type maker struct {
	t    *testing.T
	key  *rsa.PrivateKey
	ca   *x509.Certificate
	next int64
}

func newMaker(t *testing.T) *maker {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	m := &maker{t: t, key: key}
	m.ca = m.make(func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
		c.Subject.CommonName = "plant CA"
	})
	return m
}

// make signs a server's certificate, by itself before there is a CA.
func (m *maker) make(change func(*x509.Certificate)) *x509.Certificate {
	m.t.Helper()
	m.next++
	u, err := url.Parse(uri)
	if err != nil {
		m.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(m.next), Subject: pkix.Name{CommonName: "server"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{u}, DNSNames: []string{"plc"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.1")},
	}
	if change != nil {
		change(c)
	}
	parent := m.ca
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &m.key.PublicKey, m.key)
	if err != nil {
		m.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return cert
}

func TestVerify(t *testing.T) {
	m := newMaker(t)
	good := m.make(nil)
	late := m.make(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	early := m.make(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
	revoked := m.make(nil)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: revoked.SerialNumber, RevocationTime: time.Now()}},
	}, m.ca, m.key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	byIssuer := pki.Trust{Issuers: []*x509.Certificate{m.ca}, Revocations: []*x509.RevocationList{list}}
	print := func(c *x509.Certificate) pki.Trust {
		return pki.Trust{Fingerprints: []string{strings.ToUpper(pki.Fingerprint(c.Raw))}}
	}
	store, err := pki.Open(t.TempDir(), "edge-1")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cert  *x509.Certificate
		trust pki.Trust
		host  string
		uri   string
		want  string // "" for trusted
	}{
		"nobody":                 {good, pki.Trust{}, "plc", uri, "nobody trusts it"},
		"issuer":                 {good, byIssuer, "plc", uri, ""},
		"issuer, by address":     {good, byIssuer, "192.0.2.1", uri, ""},
		"issuer, other host":     {good, byIssuer, "other", uri, `not for "other"`},
		"other issuer":           {good, pki.Trust{Issuers: []*x509.Certificate{newMaker(t).ca}}, "plc", uri, "nobody trusts it"},
		"fingerprint":            {good, print(good), "other", uri, ""},
		"fingerprint of another": {good, print(late), "plc", uri, "nobody trusts it"},
		"other application":      {good, print(good), "plc", "urn:other", "not for application"},
		"expired":                {late, print(late), "plc", uri, "expired"},
		"not yet":                {early, byIssuer, "plc", uri, "valid from"},
		"revoked":                {revoked, byIssuer, "plc", uri, "revoked"},
	} {
		leaf, err := store.Verify(tt.cert.Raw, tt.trust, tt.host, tt.uri)
		if tt.want == "" {
			if err != nil || !bytes.Equal(leaf, tt.cert.Raw) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var rejected *pki.RejectedError
		if !errors.As(err, &rejected) || !strings.Contains(rejected.Reason, tt.want) || rejected.Fingerprint != pki.Fingerprint(tt.cert.Raw) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if _, err := store.Verify([]byte("no certificate"), pki.Trust{}, "plc", uri); err == nil {
		t.Error("took garbage")
	}
}

// What an operator puts into the directory counts at the next connection, and what
// was rejected lies there to be moved.
func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	store, err := pki.Open(dir, "edge-1")
	if err != nil {
		t.Fatal(err)
	}
	cert := newMaker(t).make(nil)
	if _, err := store.Verify(cert.Raw, pki.Trust{}, "plc", uri); err == nil {
		t.Fatal("trusted")
	}
	name := pki.Fingerprint(cert.Raw) + ".der"
	if err := os.Rename(filepath.Join(dir, "rejected", name), filepath.Join(dir, "trusted", name)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Verify(cert.Raw, pki.Trust{}, "plc", uri); err != nil {
		t.Error(err)
	}
	again, err := pki.Open(dir, "renamed")
	if err != nil || !bytes.Equal(again.Own().Certificate, store.Own().Certificate) || again.Own().URI != "urn:skerry:edge:edge-1" {
		t.Errorf("the own certificate is another one: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "own", "cert.der"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Open(dir, "edge-1"); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a damaged certificate: %v", err)
	}
}
