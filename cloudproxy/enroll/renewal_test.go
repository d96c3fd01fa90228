package enroll

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
)

// edgeKey is an edge's, with the certificate that it has.
type edgeKey struct {
	tb   testing.TB
	key  *ecdsa.PrivateKey
	cert string
}

func newEdgeKey(tb testing.TB) *edgeKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return &edgeKey{tb: tb, key: key}
}

func (e *edgeKey) csr() string {
	e.tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, e.key)
	if err != nil {
		e.tb.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func (e *edgeKey) join(ca *issuer.CA, cluster, node string) *edgeKey {
	e.tb.Helper()
	cert, err := ca.SignEdge([]byte(e.csr()), certs.Identity{Cluster: cluster, Node: node}, 0)
	if err != nil {
		e.tb.Fatal(err)
	}
	e.cert = string(cert)
	return e
}

func (e *edgeKey) request() []byte {
	e.tb.Helper()
	b, err := json.Marshal(certs.RenewRequest{Certificate: e.cert, CSR: e.csr()})
	if err != nil {
		e.tb.Fatal(err)
	}
	return b
}

func postRenewal(tb testing.TB, s *Service, body []byte) (status int, a certs.RenewAnswer) {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, certs.RenewPath, bytes.NewReader(body))
	r.RemoteAddr = source
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		tb.Fatalf("status %d, body %q: %v", w.Code, w.Body, err)
	}
	return w.Code, a
}

func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, newClient(t), nil)
		edge := newEdgeKey(t).join(s.CA(), clusterID, "edge-1")
		first := parseCert(t, edge.cert)
		for _, age := range []time.Duration{20 * 24 * time.Hour, 30*24*time.Hour + DefaultGrace} { // in time; at the last moment
			<-time.After(age)
			status, a := postRenewal(t, s, edge.request())
			if status != http.StatusOK || a.Granted == nil {
				t.Fatalf("after %v: %d %+v", age, status, a.Refused)
			}
			cert := parseCert(t, a.Granted.Certificate)
			if id, err := certs.CertificateIdentity(cert); err != nil || id != (certs.Identity{Cluster: clusterID, Node: "edge-1"}) {
				t.Errorf("identity %v, %v", id, err)
			}
			if got := time.Until(cert.NotAfter).Round(time.Minute); got != issuer.DefaultTTL || !edge.key.PublicKey.Equal(cert.PublicKey) {
				t.Errorf("good for %v", got)
			}
			if got := certs.JoinedAt(cert); !got.Equal(first.NotBefore) || !cert.NotBefore.After(got) {
				t.Errorf("the edge joined at %v by it, want %v", got, first.NotBefore)
			}
			edge.cert = a.Granted.Certificate
		}
	})
}

func TestRenewRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker"}})
		s := newService(t, client, nil)
		stop := run(t, s)
		defer stop()
		synctest.Wait()
		elsewhere, err := issuer.NewCA("elsewhere")
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(1300 * time.Millisecond)
		fine := newEdgeKey(t).join(s.CA(), clusterID, "edge-1")
		out := newEdgeKey(t).join(s.CA(), clusterID, "edge-2")
		status, a := postRenewal(t, s, out.request())
		if status != http.StatusOK {
			t.Fatal(status, a.Refused)
		}
		renewed := &edgeKey{t, out.key, a.Granted.Certificate}
		if _, err := Revoke(t.Context(), client, DefaultNamespace, "edge-2"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		proxy, err := s.CA().SignServer(issuer.ServerRequest{Cluster: clusterID})
		if err != nil {
			t.Fatal(err)
		}
		proxyKey, ok := proxy.PrivateKey.(*ecdsa.PrivateKey)
		if !ok {
			t.Fatalf("%T", proxy.PrivateKey)
		}
		for _, tt := range []struct {
			name string
			body []byte
			want certs.EnrollCode
		}{
			{"another key", (&edgeKey{t, newEdgeKey(t).key, fine.cert}).request(), certs.CodeUnauthorized},
			{"another CA", newEdgeKey(t).join(elsewhere, clusterID, "edge-1").request(), certs.CodeUnauthorized},
			{"another cluster", newEdgeKey(t).join(s.CA(), "elsewhere", "edge-1").request(), certs.CodeUnauthorized},
			{"the proxy's", (&edgeKey{t, proxyKey, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate[0]}))}).request(), certs.CodeUnauthorized},
			{"the CA's", (&edgeKey{t, fine.key, string(s.CA().CertPEM())}).request(), certs.CodeUnauthorized},
			{"a Node of somebody else", newEdgeKey(t).join(s.CA(), clusterID, "worker").request(), certs.CodeNodeTaken},
			{"revoked", out.request(), certs.CodeRevoked},
			{"revoked after a renewal", renewed.request(), certs.CodeRevoked},
			{"no certificate", (&edgeKey{t, fine.key, "x"}).request(), certs.CodeBadRequest},
			{"no JSON", []byte("{"), certs.CodeBadRequest},
			{"empty", nil, certs.CodeBadRequest},
			{"too much", bytes.Repeat([]byte(" "), certs.MaxEnrollBody+10), certs.CodeBadRequest},
		} {
			if status, a := postRenewal(t, s, tt.body); a.Refused == nil || a.Refused.Code != tt.want || status != statusOf(tt.want) {
				t.Errorf("%s: %d %+v", tt.name, status, a)
			}
		}
		// It is renewed again and again, however late: the revocation is of all that descends.
		if !s.Revoked(certs.Identity{Cluster: clusterID, Node: "edge-2"}, parseCert(t, renewed.cert)) {
			t.Error("a certificate that was renewed is let in after the revocation")
		}
		<-time.After(issuer.DefaultTTL + DefaultGrace + time.Minute)
		if _, a := postRenewal(t, s, fine.request()); a.Refused == nil || a.Refused.Code != certs.CodeExpired || !strings.Contains(a.Refused.Text, "new token") {
			t.Errorf("long expired: %+v", a.Refused)
		}
	})
}

// TestServeRenewal is the way through a session.
func TestServeRenewal(t *testing.T) {
	s := newService(t, newClient(t), nil)
	edge := newEdgeKey(t).join(s.CA(), clusterID, "edge-1")
	here, there := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.ServeRenewal(t.Context(), "edge-1", there) }()
	if _, err := here.Write(edge.request()); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(here)
	var a certs.RenewAnswer
	if err != nil || json.Unmarshal(b, &a) != nil || a.Granted == nil {
		t.Errorf("%v, %s", err, b)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// FuzzRenew: whatever is asked, the answer is a refusal, unless it is what an edge asks.
func FuzzRenew(f *testing.F) {
	s := newService(f, newClient(f), nil)
	edge := newEdgeKey(f).join(s.CA(), clusterID, "edge-1")
	f.Add(edge.request())
	f.Add([]byte(`{"certificate":"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----","csr":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := s.renew(t.Context(), bytes.NewReader(b), "", "fuzz")
		if a.Granted != nil && !edge.key.PublicKey.Equal(parseCert(t, a.Granted.Certificate).PublicKey) {
			t.Errorf("a certificate for a key that is not the edge's: %q", b)
		}
	})
}
