package edgeagent

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/bootstrap"
)

// trust is who may speak for the cloud: the CAs in ca.crt, which the cloud may change.
// What is on the disk comes first: nobody is trusted whom the next agent would not know.
type trust struct {
	dir string
	now atomic.Pointer[trusted]
}

type trusted struct {
	cas  []*x509.Certificate
	pool *x509.CertPool
}

func loadTrust(dir string) (*trust, error) {
	t := &trust{dir: dir}
	b, err := os.ReadFile(t.file())
	if err != nil {
		return nil, fmt.Errorf("this edge does not know its cloud's CA, run `skerry join`: %w", err)
	}
	cas, err := certs.ParseBundle(b)
	if err != nil {
		return nil, fmt.Errorf("%s holds no certificate that can be read (%w): run `skerry join --force`", t.file(), err)
	}
	t.use(cas)
	return t, nil
}

func (t *trust) file() string { return filepath.Join(t.dir, "ca.crt") }

func (t *trust) use(cas []*x509.Certificate) { t.now.Store(&trusted{cas, certs.Pool(cas)}) }

func (t *trust) pool() *x509.CertPool { return t.now.Load().pool }

func (t *trust) cas() []*x509.Certificate { return t.now.Load().cas }

// set replaces the CAs.
func (t *trust) set(cas []*x509.Certificate) error {
	bundle := certs.EncodeBundle(cas)
	if have, err := os.ReadFile(t.file()); err != nil || !bytes.Equal(have, bundle) {
		if err := certs.WriteFileAtomic(t.file(), bundle, 0o644); err != nil {
			return fmt.Errorf("keep the cloud's CA: %w", err)
		}
	}
	t.use(cas)
	return nil
}

// keep replaces the certificate, and the CAs that go with it. Those that the old
// certificate needs stay until the new one is there: after a power cut between the two
// the old one is good still.
func (t *trust) keep(r bootstrap.Renewed) error {
	cas, err := certs.ParseBundle(r.CA)
	if err != nil {
		return fmt.Errorf("keep the cloud's CA: %w", err)
	}
	both := slices.Clone(cas)
	for _, ca := range t.cas() {
		if !slices.ContainsFunc(both, ca.Equal) {
			both = append(both, ca)
		}
	}
	if err := t.set(both); err != nil {
		return err
	}
	if err := certs.WriteFileAtomic(filepath.Join(t.dir, "edge.crt"), r.Certificate, 0o644); err != nil {
		return fmt.Errorf("keep the new certificate: %w", err)
	}
	return t.set(cas)
}

// follow trusts those whom the CAs that are trusted have named as their successors.
func (t *trust) follow(s certs.Succession, now time.Time) ([]*x509.Certificate, error) {
	found, err := certs.Follow(t.cas(), s, now)
	if err != nil {
		return nil, err
	}
	return found, t.set(append(slices.Clone(t.cas()), found...))
}
