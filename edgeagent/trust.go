package edgeagent

import (
	"crypto/x509"
	"fmt"
	"os"
)

// trust is who may speak for the cloud.
type trust struct {
	pool *x509.CertPool
}

func loadTrust(file string) (*trust, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("this edge does not know its cloud's CA, run `skerry join`: %w", err)
	}
	t := &trust{pool: x509.NewCertPool()}
	if !t.pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate: run `skerry join --force`", file)
	}
	return t, nil
}
