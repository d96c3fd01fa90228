package report

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"
)

// unsigned makes a request with an RSA key of so many bits and with what is no signature,
// which takes long to be found out: long keys have no other price.
func unsigned(tb testing.TB, bits int) []byte {
	tb.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits))
	n.Sub(n, big.NewInt(1))
	spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: math.MaxInt32})
	if err != nil {
		tb.Fatal(err)
	}
	type body struct {
		Version    int
		Subject    pkix.RDNSequence
		Key        asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0"`
	}
	null := asn1.RawValue{Tag: asn1.TagNull}
	der, err := asn1.Marshal(struct {
		Body      body
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		Body:      body{Key: asn1.RawValue{FullBytes: spki}},
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: null}, // sha256WithRSAEncryption
		Signature: asn1.BitString{Bytes: make([]byte, bits/8), BitLength: bits},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// TestLongKeys: a request with a key that is longer than pods can want is decoded by Go,
// and refused before its signature is looked at.
func TestLongKeys(t *testing.T) {
	for bits, want := range map[int]string{4096: "", 6000: "type", 30_000: "bytes"} {
		der := unsigned(t, bits)
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if bits < 10_000 {
			if err := csr.CheckSignature(); !errors.Is(err, rsa.ErrVerification) {
				t.Errorf("signature of %d bits: %v", bits, err)
			}
		}
		_, _, err = parsePKCS10(der)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("key of %d bits: error %v, want one of its %s", bits, err, want)
		}
	}
}

// TestWordsOfAnEdge: a request that says more than its key is refused, since signers may
// take it for the pod's words.
func TestWordsOfAnEdge(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	names := asn1.RawValue{FullBytes: []byte{0x30, 0x03, 0x82, 0x01, 'x'}} // SAN: DNS x
	for name, tt := range map[string]struct {
		template x509.CertificateRequest
		refused  bool
	}{
		"nothing":    {x509.CertificateRequest{}, false},
		"a subject":  {x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin"}}, true},
		"a name":     {x509.CertificateRequest{DNSNames: []string{"kubernetes.default"}}, true},
		"extensions": {x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: names.FullBytes}}}, true},
		// A challenge password (RFC 2985 section 5.4.1), which Go neither writes nor shows.
		"an attribute": {x509.CertificateRequest{}, true},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &tt.template, key)
		if err != nil {
			t.Fatal(err)
		}
		if name == "an attribute" {
			der = withAttribute(t, der, key)
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil || csr.CheckSignature() != nil {
			t.Fatalf("%s: the test's request is no good: %v", name, err)
		}
		if _, _, err := parsePKCS10(der); (err != nil) != tt.refused {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// withAttribute adds to a request an attribute that is no set of names and values.
func withAttribute(t *testing.T, der []byte, key ed25519.PrivateKey) []byte {
	t.Helper()
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	body, ok := bytes.CutSuffix(csr.RawTBSCertificateRequest, []byte{0xa0, 0})
	if !ok {
		t.Fatalf("the request %x does not end with no attributes", csr.RawTBSCertificateRequest)
	}
	password, err := asn1.Marshal(struct {
		Type   asn1.ObjectIdentifier
		Values []string `asn1:"set"`
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, []string{"admin"}})
	if err != nil {
		t.Fatal(err)
	}
	body = append(append(bytes.Clone(body), 0xa0, byte(len(password))), password...)
	body[1] = byte(len(body) - 2) // all of it is shorter than 128 bytes
	out, err := asn1.Marshal(struct {
		Body      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: body},
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 101, 112}}, // RFC 8410: id-Ed25519
		asn1.BitString{Bytes: ed25519.Sign(key, body), BitLength: 8 * ed25519.SignatureSize},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTypeOfKey(t *testing.T) {
	curve := func(c elliptic.Curve) any {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k.Public()
	}
	rsaKey := func(bits int) any {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return k.Public()
	}
	for _, tt := range []struct {
		want   string
		public any
	}{
		{"ED25519", ed25519.PublicKey{}},
		{"ECDSAP256", curve(elliptic.P256())},
		{"ECDSAP384", curve(elliptic.P384())},
		{"ECDSAP521", curve(elliptic.P521())},
		{"RSA3072", rsaKey(3072)},
		{"", curve(elliptic.P224())},
		{"", rsaKey(1024)},
		{"", 7},
	} {
		if got := typeOfKey(tt.public); got != tt.want {
			t.Errorf("%T is of type %q, want %q", tt.public, got, tt.want)
		}
	}
}
