package report

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxPKCS10 bounds the bytes of a request; one of the longest keys, of RSA4096, has 1.1 kB.
const maxPKCS10 = 2 << 10

// parsePKCS10 decodes a request (RFC 2986) and names the type of its key as pods do. It
// does not check the signature. That of a key whose type pods can't name is never to be
// checked: its arithmetic may take minutes, in which no context is heard.
//
// A request that says anything beside its key is refused. Signers are given it as it is,
// and may take names in it for the pod's, while they are an edge's.
func parsePKCS10(der []byte) (csr *x509.CertificateRequest, keyType string, err error) {
	if len(der) > maxPKCS10 {
		return nil, "", fmt.Errorf("request for a certificate has %d bytes, more than %d", len(der), maxPKCS10)
	}
	if csr, err = x509.ParseCertificateRequest(der); err != nil {
		return nil, "", fmt.Errorf("request for a certificate: %w", err)
	}
	if keyType = typeOfKey(csr.PublicKey); keyType == "" {
		return nil, "", fmt.Errorf("request for a certificate has a key (%s) of a type that no pod can want", csr.PublicKeyAlgorithm)
	}
	empty, err := emptyRequest(csr.PublicKey)
	if err != nil {
		return nil, "", fmt.Errorf("request for a certificate: %w", err)
	}
	if !bytes.Equal(csr.RawTBSCertificateRequest, empty) {
		return nil, "", errors.New("request for a certificate has more than a key in it")
	}
	return csr, keyType, nil
}

// emptyRequest is what is signed of a request without subject and attributes, the
// CertificationRequestInfo of RFC 2986 section 4.1. Comparing bytes with it leaves no
// room for what x509 reads over.
func emptyRequest(public any) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		Version                  int
		Subject, Key, Attributes asn1.RawValue
	}{
		Subject:    asn1.RawValue{FullBytes: []byte{0x30, 0}}, // SEQUENCE OF
		Key:        asn1.RawValue{FullBytes: spki},
		Attributes: asn1.RawValue{FullBytes: []byte{0xa0, 0}}, // [0] IMPLICIT SET OF
	})
}

// typeOfKey names the type of a public key as corev1.PodCertificateProjection does; empty
// for one that it does not know.
func typeOfKey(public any) string {
	var name string
	switch k := public.(type) {
	case ed25519.PublicKey:
		name = "ED25519"
	case *ecdsa.PublicKey:
		name = "ECDSA" + strings.ReplaceAll(k.Curve.Params().Name, "-", "")
	case *rsa.PublicKey:
		name = "RSA" + strconv.Itoa(k.N.BitLen())
	}
	switch name {
	case "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519":
		return name
	default:
		return ""
	}
}
