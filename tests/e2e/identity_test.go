package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tests/lab"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// credentials are what an edge has after its join.
type credentials struct {
	pair tls.Certificate
	leaf *x509.Certificate
	ca   *x509.Certificate
}

func credentialsOf(t *testing.T, e *lab.Edge) credentials {
	t.Helper()
	file := func(name string) string { return filepath.Join(e.ConfigDir(), "pki", name) }
	pair, err := tls.LoadX509KeyPair(file("edge.crt"), file("edge.key"))
	must(t, err)
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	must(t, err)
	block, _ := pem.Decode([]byte(readFile(t, file("ca.crt"))))
	if block == nil {
		t.Fatal("ca.crt holds no PEM block")
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return credentials{pair: pair, leaf: leaf, ca: ca}
}

// dial opens a session as the edge would, with a certificate of ours.
func (c credentials) dial(t *testing.T, pair tls.Certificate) error {
	t.Helper()
	id, err := certs.CertificateIdentity(c.leaf)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(c.ca)
	conf, err := certs.ClientTLS(certs.ClientConfig{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
		RootCAs:              roots, Cluster: id.Cluster, NextProtos: []string{tunnel.ALPN},
	})
	must(t, err)
	return within(t, time.Minute, func(ctx context.Context) error {
		s, err := tunnel.Dial(ctx, tunnel.DialConfig{Address: theLab.Server(), TLS: conf, Hello: wire.Hello{Incarnation: [16]byte{1}, Seq: 1}})
		if err == nil {
			err = s.Close(0, "the test is over")
		}
		return err
	})
}

// forge makes a certificate that says what the real one says, signed by parent;
// without a parent it signs itself.
func (c credentials) forge(t *testing.T, parent *x509.Certificate, signer *ecdsa.PrivateKey) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: c.leaf.SerialNumber, Subject: c.leaf.Subject, URIs: c.leaf.URIs, DNSNames: c.leaf.DNSNames,
		NotBefore: c.leaf.NotBefore, NotAfter: c.leaf.NotAfter, KeyUsage: c.leaf.KeyUsage, ExtKeyUsage: c.leaf.ExtKeyUsage,
		AuthorityKeyId: c.leaf.AuthorityKeyId, BasicConstraintsValid: true,
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// otherCA is a CA that has the names of the real one, and another key.
func (c credentials) otherCA(t *testing.T) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: c.ca.Subject, URIs: c.ca.URIs, SubjectKeyId: c.ca.SubjectKeyId,
		NotBefore: c.ca.NotBefore, NotAfter: c.ca.NotAfter, IsCA: true, BasicConstraintsValid: true, KeyUsage: c.ca.KeyUsage,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	ca, err := x509.ParseCertificate(der)
	must(t, err)
	return ca, key
}

func TestForgedCertificate(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	must(t, e.StopAgent(t.Context()))
	c := credentialsOf(t, e)
	if err := c.dial(t, c.pair); err != nil {
		t.Fatalf("the real certificate is refused, so this test tests nothing: %v", err)
	}
	ca, key := c.otherCA(t)
	byOther := c.forge(t, ca, key)
	chain := byOther
	chain.Certificate = append(chain.Certificate, ca.Raw)
	for name, pair := range map[string]tls.Certificate{
		"signs itself": c.forge(t, nil, nil), "of another CA with the same names": byOther, "with that CA beside it": chain,
		"none": {},
	} {
		if err := c.dial(t, pair); !errors.Is(err, tunnel.ErrUntrusted) {
			t.Errorf("a certificate that %s: got %v, want a refusal", name, err)
		}
	}
	if err := c.dial(t, c.pair); err != nil {
		t.Errorf("the real certificate is refused afterwards: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	runPod(t, newPod(ns, "main", e, shell("main", idle)))
	execWorks(t, ns, "main")
	c := credentialsOf(t, e)

	_, err := theLab.CLI(t.Context(), "revoke", e.Name)
	must(t, err)
	must(t, lab.Until(t.Context(), 30*time.Second, "the session to be closed", func() error {
		if r := try(t, "-n", ns, "exec", "main", "--", "true"); r.err == nil {
			return errors.New("exec still works")
		}
		return nil
	}))
	if err := c.dial(t, c.pair); err == nil {
		t.Error("the revoked certificate opens a session")
	}
	must(t, e.KillAgent(t.Context()))
	must(t, e.StartAgent(t.Context()))
	eventually(t, "the agent to say why", func() error {
		if !strings.Contains(readFile(t, e.AgentLog()), "revoked") {
			return fmt.Errorf("%s does not say revoked", e.AgentLog())
		}
		return nil
	})
	if r := try(t, "-n", ns, "exec", "main", "--", "true"); r.err == nil {
		t.Error("exec works again")
	}
	// The pod itself goes on: a revoked edge loses the cloud, not its work.
	if tasks, err := e.Tasks(t.Context()); err != nil || len(tasks) != 2 {
		t.Errorf("tasks are %v, %v, want the pod's sandbox and container", tasks, err)
	}
}
