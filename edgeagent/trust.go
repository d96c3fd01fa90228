package edgeagent

import (
	"crypto/x509"
	"fmt"
	"os"
)

// loadTrust reads who may speak for the cloud.
func loadTrust(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("this edge does not know its cloud's CA, run `skerry join`: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate: run `skerry join --force`", file)
	}
	return pool, nil
}
