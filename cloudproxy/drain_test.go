package cloudproxy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// freePort gives one that is free for TCP and, most likely, for UDP.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// edgeConfig is that of an edge whom the proxy's CA knows.
func edgeConfig(t *testing.T, client *fake.Clientset, address string) tunnel.DialConfig {
	t.Helper()
	var ca *issuer.CA
	for begin := time.Now(); ca == nil; <-time.After(10 * time.Millisecond) {
		secret, err := client.CoreV1().Secrets("skerry-system").Get(t.Context(), "skerry-ca", metav1.GetOptions{})
		if err == nil {
			if ca, err = issuer.ParseCA(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]); err != nil {
				t.Fatal(err)
			}
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("no CA: %v", err)
		}
	}
	id := certs.Identity{Cluster: "cluster-1", Node: "edge-1"}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.SignEdge(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), id, 0)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(chain)
	pair := &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
	conf, err := certs.ClientTLS(certs.ClientConfig{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil },
		RootCAs:              ca.Pool(), Cluster: id.Cluster, NextProtos: []string{tunnel.ALPN},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tunnel.DialConfig{Address: address, TLS: conf, Hello: wire.Hello{Hostname: "edge-1"}}
}

// A proxy that is told to stop sends its edges away and ends soon after the last.
func TestServerDrains(t *testing.T) {
	client := fake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "cluster-1"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "skerry-system"}},
	)
	listen := freePort(t)
	s, err := cloudproxy.New(cloudproxy.Config{
		Client: client, Namespace: "skerry-system", Listen: listen, Advertise: []string{"127.0.0.1"},
		KubeletListen: "127.0.0.1:0", NodeAddress: "127.0.0.1", AdminListen: "127.0.0.1:0", Drain: 20 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	cfg := edgeConfig(t, client, listen)
	edge, err := tunnel.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-edge.GoingAway()
	_, err = tunnel.Dial(t.Context(), cfg)
	if e, ok := errors.AsType[*tunnel.SessionError](err); !ok || e.Code != wire.CodeGoingAway || !e.Remote {
		t.Errorf("another session: %v, want a refusal", err)
	}
	begin := time.Now()
	edge.Leave(t.Context())
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	if got := time.Since(begin); got > 10*time.Second {
		t.Errorf("ended %v after the last edge", got)
	}
}
