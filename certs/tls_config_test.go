package certs_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
)

const alpn = "skerry/1"

func newCA(tb testing.TB, cluster string) *issuer.CA {
	tb.Helper()
	ca, err := issuer.NewCA(cluster)
	if err != nil {
		tb.Fatal(err)
	}
	return ca
}

// edgePEM makes an edge's certificate and key.
func edgePEM(tb testing.TB, ca *issuer.CA, id certs.Identity, ttl time.Duration) (certPEM, keyPEM []byte) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		tb.Fatal(err)
	}
	certPEM, err = ca.SignEdge(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), id, ttl)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return certPEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func edgePair(tb testing.TB, ca *issuer.CA, id certs.Identity, ttl time.Duration) *tls.Certificate {
	tb.Helper()
	pair, err := tls.X509KeyPair(edgePEM(tb, ca, id, ttl))
	if err != nil {
		tb.Fatal(err)
	}
	return &pair
}

func serverPair(tb testing.TB, ca *issuer.CA, cluster string) *tls.Certificate {
	tb.Helper()
	pair, err := ca.SignServer(issuer.ServerRequest{Cluster: cluster})
	if err != nil {
		tb.Fatal(err)
	}
	return pair
}

func serverTLS(tb testing.TB, ca *issuer.CA, pair *tls.Certificate, revoked func(certs.Identity, *x509.Certificate) bool) *tls.Config {
	tb.Helper()
	cfg, err := certs.ServerTLS(certs.ServerConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair, nil },
		ClientCAs:      ca.Pool(), Cluster: cluster, NextProtos: []string{alpn}, Revoked: revoked,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return cfg
}

func clientTLS(tb testing.TB, ca *issuer.CA, pair *tls.Certificate, cache tls.ClientSessionCache) *tls.Config {
	tb.Helper()
	cfg, err := certs.ClientTLS(certs.ClientConfig{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil },
		RootCAs:              ca.Pool(), Cluster: cluster, NextProtos: []string{alpn}, SessionCache: cache,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return cfg
}

type result struct {
	state tls.ConnectionState
	err   error
}

// queued is a net.Pipe end whose writes do not wait for the reader: both sides of
// a failing handshake write at once, and a bare pipe would hang.
type queued struct {
	net.Conn
	out chan []byte
}

func newQueued(conn net.Conn) queued {
	q := queued{conn, make(chan []byte, 64)}
	go func() {
		defer conn.Close()
		for b := range q.out {
			if _, err := conn.Write(b); err != nil {
				return
			}
		}
	}()
	return q
}

func (q queued) Write(b []byte) (int, error) {
	q.out <- bytes.Clone(b)
	return len(b), nil
}

// Close ends the stream behind what was written.
func (q queued) Close() error {
	close(q.out)
	return nil
}

// handshake connects the two over a pipe and moves one byte each way, so that
// the client has seen the server's verdict and has its session ticket.
func handshake(tb testing.TB, server, client *tls.Config) (srv, cli result) {
	tb.Helper()
	pa, pb := net.Pipe()
	a, b := newQueued(pa), newQueued(pb)
	done := make(chan result, 1)
	go func() {
		conn := tls.Server(a, server)
		defer a.Close()
		err := conn.Handshake()
		if err == nil {
			_, err = io.CopyN(conn, conn, 1)
		}
		done <- result{conn.ConnectionState(), err}
	}()
	conn := tls.Client(b, client)
	err := conn.Handshake()
	if err == nil {
		_, err = conn.Write([]byte{1})
	}
	if err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	cli = result{conn.ConnectionState(), err}
	b.Close()
	return <-done, cli
}

func TestMutualTLS(t *testing.T) {
	ca, foreign := newCA(t, cluster), newCA(t, cluster)
	node := certs.Identity{Cluster: cluster, Node: "edge-1"}
	proxy := serverPair(t, ca, cluster)
	edge := edgePair(t, ca, node, 0)

	srv, cli := handshake(t, serverTLS(t, ca, proxy, nil), clientTLS(t, ca, edge, nil))
	if srv.err != nil || cli.err != nil {
		t.Fatalf("server: %v, client: %v", srv.err, cli.err)
	}
	if id, err := certs.PeerIdentity(srv.state); err != nil || id != node {
		t.Errorf("the server sees %v, %v; want %v", id, err, node)
	}
	if id, err := certs.PeerIdentity(cli.state); err != nil || !id.IsProxy() {
		t.Errorf("the client sees %v, %v; want the proxy", id, err)
	}
	if srv.state.Version != tls.VersionTLS13 || srv.state.NegotiatedProtocol != alpn {
		t.Errorf("version %x, protocol %q", srv.state.Version, srv.state.NegotiatedProtocol)
	}

	old := clientTLS(t, ca, edge, nil)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	none := clientTLS(t, ca, edge, nil)
	none.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	tests := map[string]struct {
		server, client *tls.Config
	}{
		"edge of a foreign CA":        {serverTLS(t, ca, proxy, nil), clientTLS(t, ca, edgePair(t, foreign, node, 0), nil)},
		"edge of another cluster":     {serverTLS(t, ca, proxy, nil), clientTLS(t, ca, edgePair(t, ca, certs.Identity{Cluster: "x", Node: "edge-1"}, 0), nil)},
		"no client certificate":       {serverTLS(t, ca, proxy, nil), none},
		"proxy's certificate as edge": {serverTLS(t, ca, proxy, nil), clientTLS(t, ca, proxy, nil)},
		"edge's certificate as proxy": {serverTLS(t, ca, edge, nil), clientTLS(t, ca, edge, nil)},
		"proxy of a foreign CA":       {serverTLS(t, ca, serverPair(t, foreign, cluster), nil), clientTLS(t, ca, edge, nil)},
		"proxy of another cluster":    {serverTLS(t, ca, serverPair(t, ca, "x"), nil), clientTLS(t, ca, edge, nil)},
		"TLS 1.2":                     {serverTLS(t, ca, proxy, nil), old},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			srv, cli := handshake(t, tt.server, tt.client)
			if srv.err == nil || cli.err == nil {
				t.Errorf("server: %v, client: %v; want both to fail", srv.err, cli.err)
			}
		})
	}
}

func TestResumedSessionIsCheckedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, cluster)
		node := certs.Identity{Cluster: cluster, Node: "edge-1"}
		revoked := false
		server := serverTLS(t, ca, serverPair(t, ca, cluster), func(id certs.Identity, cert *x509.Certificate) bool {
			if id != node || cert.NotBefore.IsZero() {
				t.Errorf("asked about %v", id)
			}
			return revoked
		})
		client := clientTLS(t, ca, edgePair(t, ca, node, time.Hour), tls.NewLRUClientSessionCache(1))

		for _, wantResume := range []bool{false, true} {
			srv, cli := handshake(t, server, client)
			if srv.err != nil || cli.err != nil {
				t.Fatalf("server: %v, client: %v", srv.err, cli.err)
			}
			if srv.state.DidResume != wantResume {
				t.Fatalf("resumed: %t; want %t", srv.state.DidResume, wantResume)
			}
			if id, err := certs.PeerIdentity(srv.state); err != nil || id != node {
				t.Errorf("resumed=%t: identity %v, %v", wantResume, id, err)
			}
		}
		revoked = true
		srv, cli := handshake(t, server, client)
		if srv.err == nil || !strings.Contains(srv.err.Error(), certs.ErrRevoked.Error()) || cli.err == nil {
			t.Errorf("revoked: server %v, client %v; want a refusal", srv.err, cli.err)
		}
		if !srv.state.DidResume {
			t.Error("the refused session was not a resumed one: the test shows nothing")
		}
		revoked = false
		<-time.After(2 * time.Hour)
		if srv, cli = handshake(t, server, client); srv.err == nil || cli.err == nil {
			t.Errorf("expired: server %v, client %v; want a refusal", srv.err, cli.err)
		}
	})
}

func TestConfigsRefuseHoles(t *testing.T) {
	if _, err := certs.ServerTLS(certs.ServerConfig{}); err == nil {
		t.Error("empty server config taken")
	}
	if _, err := certs.ClientTLS(certs.ClientConfig{}); err == nil {
		t.Error("empty client config taken")
	}
}

func TestKeyPairFileReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, cluster)
		dir := t.TempDir()
		certFile, keyFile := filepath.Join(dir, "edge.crt"), filepath.Join(dir, "edge.key")
		mtime := time.Now()
		write := func(name string, data []byte) {
			if err := certs.WriteFileAtomic(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
			// The file system's clock is not the bubble's.
			mtime = mtime.Add(time.Second)
			if err := os.Chtimes(name, mtime, mtime); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := certs.NewKeyPairFile(certFile, keyFile, nil); err == nil {
			t.Fatal("missing files taken")
		}
		cert1, key1 := edgePEM(t, ca, certs.Identity{Cluster: cluster, Node: "one"}, 0)
		cert2, key2 := edgePEM(t, ca, certs.Identity{Cluster: cluster, Node: "two"}, 0)
		write(certFile, cert1)
		write(keyFile, key1)
		var log bytes.Buffer
		f, err := certs.NewKeyPairFile(certFile, keyFile, textLog(&log))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- f.Run(t.Context()) }()
		node := func() string {
			t.Helper()
			id, err := f.Identity()
			if err != nil {
				t.Fatal(err)
			}
			return id.Node
		}
		if got := node(); got != "one" {
			t.Fatalf("identity %q; want one", got)
		}
		// Half of the new pair: the old one stays, however long it takes.
		write(certFile, cert2)
		<-time.After(time.Minute)
		synctest.Wait()
		if got := node(); got != "one" {
			t.Errorf("identity %q; want one", got)
		}
		if n := strings.Count(log.String(), "certificate not reloaded"); n != 1 {
			t.Errorf("%d complaints; want 1:\n%s", n, &log)
		}
		write(keyFile, key2)
		<-time.After(11 * time.Second)
		synctest.Wait()
		if got := node(); got != "two" {
			t.Errorf("identity %q; want two", got)
		}
		pair, err := f.GetCertificate(nil)
		if err != nil || pair.Leaf.Subject.CommonName != "two" {
			t.Errorf("GetCertificate gives %v, %v", pair.Leaf.Subject, err)
		}
	})
}

func TestWriteFileAtomic(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "key")
	if err := os.WriteFile(name, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := certs.WriteFileAtomic(name, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600 though the old file had 0644", info.Mode(), err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := certs.WriteFileAtomic(filepath.Join(dir, "dir"), []byte("x"), 0o600); err == nil {
		t.Error("a directory was replaced by a file")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestCAHash(t *testing.T) {
	ca, other := newCA(t, cluster), newCA(t, cluster)
	h, err := certs.ParseCAHash(ca.Hash().String())
	if err != nil || h != ca.Hash() {
		t.Fatalf("got %s, %v; want %s", h, err, ca.Hash())
	}
	if !h.Matches(ca.Certificate()) || h.Matches(other.Certificate()) {
		t.Error("the hash tells the CAs apart wrongly")
	}
	leaf := serverPair(t, ca, cluster).Leaf
	if certs.HashCA(leaf).Matches(leaf) {
		t.Error("a leaf passes for a CA")
	}
	for _, s := range []string{"", "sha256:", "sha256:00", strings.ToUpper(h.String()), h.String() + "00", "md5:" + h.String()[7:]} {
		if _, err := certs.ParseCAHash(s); err == nil {
			t.Errorf("ParseCAHash(%q) worked", s)
		}
	}
}
