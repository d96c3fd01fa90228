package issuer

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"time"
)

// Link names a successor: a certificate of its name and key, signed by this CA. It is
// what certs.Follow reads. It ends when either of the two does.
func (ca *CA) Link(next *x509.Certificate) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		RawSubject:            next.RawSubject,
		SubjectKeyId:          next.SubjectKeyId,
		NotBefore:             time.Now().Truncate(time.Second).Add(-backdate),
		NotAfter:              next.NotAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	if ca.cert.NotAfter.Before(template.NotAfter) {
		template.NotAfter = ca.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, next.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the successor of the ca: %w", err)
	}
	link, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse the successor of the ca: %w", err)
	}
	return link, nil
}
