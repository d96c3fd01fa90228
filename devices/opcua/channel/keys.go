package channel

import (
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // Part 6, 6.7.2.3 names it
	"crypto/x509"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
)

// token is a set of symmetric keys and its number.
type token struct {
	id       uint32
	algo     *uapolicy.EncryptionAlgorithm
	lifetime time.Duration
	expires  time.Time // when we stop taking it
}

// asymmetric gives the algorithms of OpenSecureChannel.
func asymmetric(c Config) (*uapolicy.EncryptionAlgorithm, error) {
	if c.Policy == ua.SecurityPolicyURINone {
		return uapolicy.Asymmetric(c.Policy, nil, nil)
	}
	cert, err := x509.ParseCertificate(c.Server)
	if err != nil {
		return nil, fmt.Errorf("server's certificate: %w", err)
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("server's certificate has a key of type %T, want RSA", cert.PublicKey)
	}
	algo, err := uapolicy.Asymmetric(c.Policy, c.Key, key)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", c.Policy, err)
	}
	return algo, nil
}

func thumbprint(der []byte) []byte {
	if len(der) == 0 {
		return nil
	}
	sum := sha1.Sum(der) //nolint:gosec // as above: it names, it does not prove
	return sum[:]
}
