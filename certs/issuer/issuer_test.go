package issuer_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
)

const cluster = "5a1b6b3e-0c9d-4a7e-9a51-0d2f1c3b4a5d"

func newCA(tb testing.TB) *issuer.CA {
	tb.Helper()
	ca, err := issuer.NewCA(cluster)
	if err != nil {
		tb.Fatal(err)
	}
	return ca
}

func newKey(tb testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func newCSR(tb testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func parseCert(tb testing.TB, data []byte) *x509.Certificate {
	tb.Helper()
	block, rest := pem.Decode(data)
	if block == nil || len(rest) != 0 {
		tb.Fatalf("want one PEM block, got %q", data)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func TestSignEdgeTakesTheKeyAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		<-time.After(1234 * time.Millisecond) // off the full second
		ca := newCA(t)
		key := newKey(t, elliptic.P256())
		evil, err := url.Parse("skerry://" + cluster + "/cloudproxy")
		if err != nil {
			t.Fatal(err)
		}
		csr := newCSR(t, key, x509.CertificateRequest{
			Subject:     pkix.Name{CommonName: "system:masters", Organization: []string{"system:masters"}},
			DNSNames:    []string{certs.ProxyServerName},
			IPAddresses: []net.IP{{10, 0, 0, 1}},
			URIs:        []*url.URL{evil},
			ExtraExtensions: []pkix.Extension{
				{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}, // CA:true
			},
		})
		id := certs.Identity{Cluster: cluster, Node: "edge-1"}
		data, err := ca.SignEdge(csr, id, 0)
		if err != nil {
			t.Fatal(err)
		}
		cert := parseCert(t, data)
		if !key.PublicKey.Equal(cert.PublicKey) {
			t.Error("another key")
		}
		if got, err := certs.CertificateIdentity(cert); err != nil || got != id {
			t.Errorf("identity %v, %v; want %v", got, err, id)
		}
		if len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses) != 0 || len(cert.URIs) != 1 {
			t.Errorf("names from the request: %v %v %v", cert.DNSNames, cert.IPAddresses, cert.URIs)
		}
		if got := cert.Subject.String(); got != "SERIALNUMBER="+cert.NotBefore.UTC().Format(time.RFC3339)+",CN=edge-1" {
			t.Errorf("subject %s", got)
		}
		if cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Errorf("ca=%t, key usage %d", cert.IsCA, cert.KeyUsage)
		}
		if diff := cmp.Diff([]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, cert.ExtKeyUsage); diff != "" {
			t.Error(diff)
		}
		now := time.Now().Truncate(time.Second)
		if !cert.NotBefore.Equal(now) || !cert.NotAfter.Equal(now.Add(issuer.DefaultTTL)) {
			t.Errorf("valid %s to %s; want from %s for %s", cert.NotBefore, cert.NotAfter, now, issuer.DefaultTTL)
		}
		if _, err := cert.Verify(x509.VerifyOptions{
			Roots: ca.Pool(), CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestSignEdgeRefuses(t *testing.T) {
	ca := newCA(t)
	id := certs.Identity{Cluster: cluster, Node: "edge-1"}
	good := newCSR(t, newKey(t, elliptic.P256()), x509.CertificateRequest{})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	block.Bytes[len(block.Bytes)-1] ^= 1
	forged := pem.EncodeToMemory(block)

	tests := map[string][]byte{
		"empty":           nil,
		"not PEM":         []byte("hello"),
		"certificate":     ca.CertPEM(),
		"RSA":             newCSR(t, rsaKey, x509.CertificateRequest{}),
		"P-224":           newCSR(t, newKey(t, elliptic.P224()), x509.CertificateRequest{}),
		"forged":          forged,
		"two requests":    append(append([]byte(nil), good...), good...),
		"larger than 8 k": append(append([]byte(nil), good...), make([]byte, 8<<10)...),
	}
	for name, csr := range tests {
		if _, err := ca.SignEdge(csr, id, 0); !errors.Is(err, issuer.ErrBadRequest) {
			t.Errorf("%s: got %v; want ErrBadRequest", name, err)
		}
	}
	for _, id := range []certs.Identity{{}, {Cluster: cluster}, {Cluster: cluster, Node: "A"}, {Node: "a"}} {
		if _, err := ca.SignEdge(good, id, 0); err == nil {
			t.Errorf("signed %+v", id)
		}
	}
	if _, err := ca.SignEdge(good, id, -time.Second); err == nil {
		t.Error("signed for a negative time")
	}
}

func TestNothingOutlivesTheCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		csr := newCSR(t, newKey(t, elliptic.P384()), x509.CertificateRequest{})
		id := certs.Identity{Cluster: cluster, Node: "edge-1"}
		<-time.After(10*365*24*time.Hour - time.Hour)
		data, err := ca.SignEdge(csr, id, 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if got := parseCert(t, data).NotAfter; !got.Equal(ca.Certificate().NotAfter) {
			t.Errorf("ends %s; want %s, the CA's end", got, ca.Certificate().NotAfter)
		}
		<-time.After(2 * time.Hour)
		if _, err := ca.SignEdge(csr, id, 0); err == nil {
			t.Error("signed by an expired CA")
		}
	})
}

func TestSignServer(t *testing.T) {
	ca := newCA(t)
	pair, err := ca.SignServer(issuer.ServerRequest{Cluster: cluster, Names: []string{"proxy.example.com", "192.0.2.1", "2001:db8::1", ""}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"proxy.example.com", "192.0.2.1", "2001:db8::1", certs.ProxyServerName} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if id, err := certs.CertificateIdentity(pair.Leaf); err != nil || !id.IsProxy() || id.Cluster != cluster {
		t.Errorf("identity %v, %v", id, err)
	}
	if len(pair.Certificate) != 2 || !cmp.Equal(pair.Certificate[1], ca.Certificate().Raw) {
		t.Error("the chain does not show the CA")
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{
		Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err == nil {
		t.Error("the proxy's certificate is good for a client")
	}
}

func TestParseCA(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	key, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	got, err := issuer.ParseCA(ca.CertPEM(), key)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Certificate().Equal(ca.Certificate()) || got.Hash() != ca.Hash() {
		t.Error("another CA came back")
	}
	if _, err := issuer.ParseCA(other.CertPEM(), key); err == nil {
		t.Error("took a foreign key")
	}
	if _, err := issuer.ParseCA(append(ca.CertPEM(), other.CertPEM()...), key); err == nil {
		t.Error("took two certificates")
	}
	leafKey := newKey(t, elliptic.P256())
	leaf, err := ca.SignEdge(newCSR(t, leafKey, x509.CertificateRequest{}), certs.Identity{Cluster: cluster, Node: "a"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := issuer.ParseCA(leaf, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err == nil {
		t.Error("took a leaf for a CA")
	}
}

func TestSerialsDiffer(t *testing.T) {
	ca := newCA(t)
	csr := newCSR(t, newKey(t, elliptic.P256()), x509.CertificateRequest{})
	limit := new(big.Int).Lsh(big.NewInt(1), 128)
	seen := map[string]bool{}
	for range 20 {
		data, err := ca.SignEdge(csr, certs.Identity{Cluster: cluster, Node: "a"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		serial := parseCert(t, data).SerialNumber
		if serial.Sign() <= 0 || serial.Cmp(limit) >= 0 || seen[serial.String()] {
			t.Fatalf("serial %x", serial)
		}
		seen[serial.String()] = true
	}
}

func FuzzSignEdge(f *testing.F) {
	ca := newCA(f)
	id := certs.Identity{Cluster: cluster, Node: "edge-1"}
	f.Add(newCSR(f, newKey(f, elliptic.P256()), x509.CertificateRequest{}))
	f.Add(newCSR(f, newKey(f, elliptic.P384()), x509.CertificateRequest{DNSNames: []string{"a"}, Subject: pkix.Name{CommonName: "b"}}))
	f.Add(ca.CertPEM())
	f.Fuzz(func(t *testing.T, csr []byte) {
		data, err := ca.SignEdge(csr, id, 0)
		if err != nil {
			if !errors.Is(err, issuer.ErrBadRequest) {
				t.Fatalf("unexpected kind of error: %v", err)
			}
			return
		}
		cert := parseCert(t, data)
		got, err := certs.CertificateIdentity(cert)
		if err != nil || got != id || cert.IsCA || len(cert.DNSNames) != 0 {
			t.Fatalf("signed %v, %v, ca=%t, names %v", got, err, cert.IsCA, cert.DNSNames)
		}
	})
}
