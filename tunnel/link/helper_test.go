package link

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	testCluster = "5e6f7a1b-test"
	testALPN    = "skerry/1"
)

// authority issues certificates, by the clock of the bubble that it is made in.
type authority struct {
	tb testing.TB
	ca *issuer.CA
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	ca, err := issuer.NewCA(testCluster)
	if err != nil {
		tb.Fatal(err)
	}
	return &authority{tb: tb, ca: ca}
}

// server is a cloud's configuration that refuses the certificates of revoked nodes.
func (a *authority) server(revoked ...string) *tls.Config {
	a.tb.Helper()
	pair, err := a.ca.SignServer(issuer.ServerRequest{Cluster: testCluster, Names: []string{"127.0.0.1"}})
	if err != nil {
		a.tb.Fatal(err)
	}
	conf, err := certs.ServerTLS(certs.ServerConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair, nil },
		ClientCAs:      a.ca.Pool(), Cluster: testCluster, NextProtos: []string{testALPN},
		Revoked: func(id certs.Identity, _ *x509.Certificate) bool {
			return slices.Contains(revoked, id.Node)
		},
	})
	if err != nil {
		a.tb.Fatal(err)
	}
	return conf
}

// client is the configuration of the edge called node.
func (a *authority) client(node string) *tls.Config {
	a.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.tb.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		a.tb.Fatal(err)
	}
	chain, err := a.ca.SignEdge(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}),
		certs.Identity{Cluster: testCluster, Node: node}, time.Hour)
	if err != nil {
		a.tb.Fatal(err)
	}
	block, _ := pem.Decode(chain)
	pair := &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
	conf, err := certs.ClientTLS(certs.ClientConfig{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil },
		RootCAs:              a.ca.Pool(), Cluster: testCluster, NextProtos: []string{testALPN},
	})
	if err != nil {
		a.tb.Fatal(err)
	}
	return conf
}

// pipes is a network without buffers: dial and Accept give the ends of net.Pipes.
type pipes struct {
	conns  chan net.Conn
	errs   chan error // what Accept returns first
	delay  time.Duration
	once   sync.Once
	closed chan struct{}
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), errs: make(chan error, 10), closed: make(chan struct{})}
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p.conns <- slow{b, p.delay}:
		return slow{a, p.delay}, nil
	case <-p.closed:
		return nil, errors.New("nobody listens")
	}
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case err := <-p.errs:
		return nil, err
	default:
	}
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// slow delays what is written.
type slow struct {
	net.Conn
	delay time.Duration
}

// Write implements net.Conn.
func (s slow) Write(p []byte) (int, error) {
	<-time.After(s.delay)
	return s.Conn.Write(p)
}

// reading reads a connection's frames until it ends.
type reading struct {
	frames chan wire.Frame
	end    chan error
}

func read(tb testing.TB, c Conn) *reading {
	tb.Helper()
	r, err := c.AcceptLane(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	out := &reading{frames: make(chan wire.Frame, 1000), end: make(chan error, 1)}
	go func() {
		frames := wire.NewReader(&oneByte{r}, maxFrame)
		for {
			f, err := frames.Next()
			if err != nil {
				out.end <- err
				return
			}
			if d, ok := f.(*wire.Data); ok { // the reader's buffer is used again
				f = &wire.Data{Channel: d.Channel, Bytes: append([]byte(nil), d.Bytes...)}
			}
			out.frames <- f
		}
	}()
	return out
}

// oneByte gives a reader the method that wire.Reader needs, without reading ahead.
type oneByte struct{ io.Reader }

// ReadByte implements io.ByteReader.
func (r oneByte) ReadByte() (byte, error) {
	var p [1]byte
	_, err := io.ReadFull(r, p[:])
	return p[0], err
}

// pair connects an edge to a cloud. Nobody reads the cloud's side yet.
func pair(t *testing.T, p *pipes, keepAlive time.Duration) (edge, cloud Conn, fromCloud *reading) {
	t.Helper()
	ca := newAuthority(t)
	l := ListenTLS(p, ca.server(), 0)
	edge, err := DialTLS(t.Context(), p.dial, "cloud:7443", ca.client("edge-1"), keepAlive)
	if err != nil {
		t.Fatal(err)
	}
	fromCloud = read(t, edge) // the cloud's handshake ends with its tickets
	cloud, err = l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cloud.Settle()
	t.Cleanup(func() {
		edge.Close(wire.CodeOK, "test ends")
		cloud.Close(wire.CodeOK, "test ends")
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-time.After(p.delay) // of the goodbyes
	})
	return edge, cloud, fromCloud
}

// ended checks how a connection ended.
func ended(t *testing.T, err error, code wire.Code, remote bool) *ConnError {
	t.Helper()
	var e *ConnError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a ConnError", err)
	}
	if e.Code != code || e.Remote != remote {
		t.Errorf("ended with %v, want code %v, remote %t", err, code, remote)
	}
	// What neither Close nor a goodbye ended was ended by the carrier.
	if carrier := code == wire.CodeOffline || code == wire.CodeInternal || code == wire.CodeUnsupported; carrier && e.Application {
		t.Errorf("%v is taken for a Close", err)
	}
	return e
}

func openLane(t *testing.T, c Conn, urgency int8) Lane { //nolint:ireturn // as OpenLane
	t.Helper()
	l, err := c.OpenLane(t.Context(), urgency)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
