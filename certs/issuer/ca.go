package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/skerry-io/skerry/certs"
)

const (
	caLifetime = 10 * 365 * 24 * time.Hour

	// backdate makes what we sign for ourselves (the CA, the proxy) valid on
	// machines whose clock runs late. Edges' certificates have none, see SignEdge.
	backdate = time.Hour

	serialBits = 128 // RFC 5280 allows 159; 64 are needed against collisions
)

// PEM block types.
const (
	pemCertificate = "CERTIFICATE"
	pemPrivateKey  = "PRIVATE KEY"
	pemECKey       = "EC PRIVATE KEY"
	pemRequest     = "CERTIFICATE REQUEST"
)

// CA signs certificates. It is safe for concurrent use.
type CA struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// NewCA makes a self-signed ECDSA P-256 CA for the cluster, valid for ten years.
func NewCA(cluster string) (*CA, error) {
	id := certs.Identity{Cluster: cluster}
	if err := id.Validate(); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make ca key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "skerry-ca", OrganizationalUnit: []string{cluster}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs leaves only
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign ca: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse new ca: %w", err)
	}
	return &CA{cert: cert, key: key, pem: encodeCertificate(der)}, nil
}

// ParseCA reads what CertPEM and KeyPEM wrote, or a CA that an operator brings:
// one certificate that may sign, with its ECDSA P-256 or P-384 key.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	block, rest := pem.Decode(certPEM)
	if block == nil || block.Type != pemCertificate {
		return nil, errors.New("parse ca: no certificate in PEM form")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("parse ca: more than one certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse ca certificate: %w", err)
	}
	if !cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, errors.New("parse ca: the certificate may not sign others")
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("parse ca: the key is not the certificate's")
	}
	return &CA{cert: cert, key: key, pem: encodeCertificate(cert.Raw)}, nil
}

func parseKey(keyPEM []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("parse ca: no key in PEM form")
	}
	switch block.Type {
	case pemECKey:
		key, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse ca key: %w", err)
		}
		return key, nil
	case pemPrivateKey:
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse ca key: %w", err)
		}
		if ec, ok := key.(*ecdsa.PrivateKey); ok {
			return ec, nil
		}
		return nil, fmt.Errorf("parse ca key: %T is not supported, use ECDSA", key)
	default:
		return nil, fmt.Errorf("parse ca key: unexpected PEM block %q", block.Type)
	}
}

// Certificate gives the CA's certificate; callers must not change it.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// CertPEM gives the CA's certificate in PEM form.
func (ca *CA) CertPEM() []byte { return append([]byte(nil), ca.pem...) }

// KeyPEM gives the CA's key in PEM form (PKCS #8).
func (ca *CA) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, fmt.Errorf("encode ca key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: der}), nil
}

// Derive gives a secret that is the same for all who hold the CA's key, and
// tells nothing of it or of secrets for other purposes (HKDF, RFC 5869).
func (ca *CA) Derive(purpose string) ([32]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return [32]byte{}, fmt.Errorf("derive key for %s: %w", purpose, err)
	}
	b, err := hkdf.Key(sha256.New, der, nil, "skerry "+purpose, 32)
	if err != nil {
		return [32]byte{}, fmt.Errorf("derive key for %s: %w", purpose, err)
	}
	return [32]byte(b), nil
}

// Hash gives what a join command pins.
func (ca *CA) Hash() certs.CAHash { return certs.HashCA(ca.cert) }

// Pool gives a new pool that holds this CA only.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

func newSerial() (*big.Int, error) {
	limit := new(big.Int).Lsh(big.NewInt(1), serialBits)
	for {
		serial, err := rand.Int(rand.Reader, limit)
		if err != nil {
			return nil, fmt.Errorf("make serial number: %w", err)
		}
		if serial.Sign() > 0 { // RFC 5280 forbids zero
			return serial, nil
		}
	}
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})
}
