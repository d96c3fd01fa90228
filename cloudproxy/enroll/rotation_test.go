package enroll

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
)

// keyAnnotation is where the tests' Nodes have the key.
const keyAnnotation = "test/key"

func rotate(t *testing.T, client *fake.Clientset, step func(*rotation.State) (*rotation.State, error)) {
	t.Helper()
	secrets := client.CoreV1().Secrets(DefaultNamespace)
	secret, err := secrets.Get(t.Context(), rotation.SecretName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret = secret.DeepCopy()
	state, err := rotation.Parse(secret)
	if err == nil {
		state, err = step(state)
	}
	if err == nil {
		err = state.Fill(secret)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// fieldEdge is an edge with what it has on its disk.
type fieldEdge struct {
	*edgeKey

	node   string
	trusts []*x509.Certificate
}

func (e *fieldEdge) keep(a *certs.EnrollResponse) {
	e.tb.Helper()
	cas, err := certs.ParseBundle([]byte(a.CA))
	if err != nil {
		e.tb.Fatal(err)
	}
	e.trusts, e.cert = cas, a.Certificate
}

// renew asks one replica, and keeps what it gets.
func (e *fieldEdge) renew(s *Service) certs.EnrollCode {
	e.tb.Helper()
	_, a := postRenewal(e.tb, s, e.request())
	if a.Refused != nil {
		return a.Refused.Code
	}
	e.keep(a.Granted)
	return ""
}

// meet is a handshake of both: who refuses the other?
func (e *fieldEdge) meet(s *Service) (edge, proxy error) {
	e.tb.Helper()
	pair := &tls.Certificate{Certificate: [][]byte{parseCert(e.tb, e.cert).Raw}, PrivateKey: e.key}
	client, err := certs.ClientTLS(certs.ClientConfig{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil },
		RootCAs:              certs.Pool(e.trusts), Cluster: clusterID, NextProtos: []string{"x"},
	})
	if err != nil {
		e.tb.Fatal(err)
	}
	server, err := certs.ServerTLS(certs.ServerConfig{
		GetCertificate: s.GetCertificate, ClientCAs: certs.Pool(s.State().Trusted()), Cluster: clusterID, NextProtos: []string{"x"},
	})
	if err != nil {
		e.tb.Fatal(err)
	}
	server.SessionTicketsDisabled = true // nobody reads them
	here, there := net.Pipe()
	done := make(chan error, 1)
	go func() {
		err := tls.Server(there, server).HandshakeContext(e.tb.Context())
		_ = there.Close()
		done <- err
	}()
	edge = tls.Client(here, client).HandshakeContext(e.tb.Context())
	_ = here.Close() // nobody would read why the proxy refuses
	return edge, <-done
}

func (e *fieldEdge) fine(step string, replicas ...*Service) {
	e.tb.Helper()
	for i, s := range replicas {
		if edge, proxy := e.meet(s); edge != nil || proxy != nil {
			e.tb.Errorf("%s: %s and replica %d: %v, %v", step, e.node, i, edge, proxy)
		}
	}
}

func succession(tb testing.TB, s *Service) certs.Succession {
	tb.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodGet, certs.SuccessionPath, http.NoBody)
	r.RemoteAddr = source
	s.Handler().ServeHTTP(w, r)
	var said certs.Succession
	if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != http.StatusOK {
		tb.Fatalf("status %d, body %q: %v", w.Code, w.Body, err)
	}
	return said
}

// TestRotation has two replicas and three edges, one of which is off during all of it.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t)
		cfg := func(c *Config) { c.Key = func(n *corev1.Node) string { return n.Annotations[keyAnnotation] } }
		one, two := newService(t, client, cfg), newService(t, client, cfg)
		for _, s := range []*Service{one, two} {
			stop := run(t, s)
			defer stop()
		}
		synctest.Wait()
		old := one.CA()
		edges := map[string]*fieldEdge{}
		for _, node := range []string{"near", "far", "off", "thief"} {
			e := &fieldEdge{newEdgeKey(t).join(old, clusterID, node), node, one.State().Trusted()}
			edges[node] = e
			known := e
			if node == "thief" { // has the CA's key, and makes certificates of nodes as it likes
				known = &fieldEdge{edgeKey: newEdgeKey(t).join(old, clusterID, node)}
			}
			_, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{
				Name: node, Labels: map[string]string{ManagedLabel: "true"},
				Annotations: map[string]string{keyAnnotation: certs.KeyHash(parseCert(t, known.cert))},
			}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			e.fine("before", one, two)
		}
		near, far, off, thief := edges["near"], edges["far"], edges["off"], edges["thief"]
		next, err := issuer.NewCA(clusterID)
		if err != nil {
			t.Fatal(err)
		}
		rotate(t, client, func(s *rotation.State) (*rotation.State, error) { return s.Add(next, false) })
		near.renew(one)
		far.renew(two)
		for _, e := range edges {
			e.fine("both are trusted", one, two)
		}
		if len(near.trusts) != 2 || len(far.trusts) != 2 || parseCert(t, near.cert).CheckSignatureFrom(old.Certificate()) != nil {
			t.Errorf("near trusts %d, far %d", len(near.trusts), len(far.trusts))
		}
		rotate(t, client, (*rotation.State).Move)
		near.renew(two)
		far.renew(one)
		for _, e := range edges {
			e.fine("edges have moved", one, two)
		}
		if parseCert(t, near.cert).CheckSignatureFrom(next.Certificate()) != nil {
			t.Error("near was not given a certificate of the new CA")
		}
		rotate(t, client, func(s *rotation.State) (*rotation.State, error) { return s.Drop(false) })
		near.fine("the old one is gone", one, two)
		near.renew(one)
		near.fine("at the end", one, two)
		if len(near.trusts) != 1 {
			t.Errorf("near trusts %d CAs at the end", len(near.trusts))
		}
		if info, err := ReadInfo(t.Context(), client, DefaultNamespace); err != nil || strings.Contains(string(info.CA), string(old.CertPEM())) {
			t.Errorf("join commands name the old CA: %v", err)
		}

		// Now the one that was off, past the end of its certificate.
		<-time.After(issuer.DefaultTTL + 24*time.Hour)
		if edge, _ := off.meet(one); edge == nil {
			t.Error("off takes the word of a CA that it does not know")
		}
		found, err := certs.Follow(off.trusts, succession(t, two), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		off.trusts = append(off.trusts, found...)
		if edge, proxy := off.meet(one); edge != nil && !strings.Contains(edge.Error(), "pipe") || proxy == nil {
			t.Errorf("off finds %v, and is let in by an old certificate: %v", edge, proxy)
		}
		if code := off.renew(one); code != "" {
			t.Fatalf("off does not get in: %s", code)
		}
		off.fine("back", one, two)
		if code := thief.renew(one); code != certs.CodeUnauthorized {
			t.Errorf("a certificate made with the old CA's key: %q", code)
		}
	})
}

// TestDistrust: nobody renews by the CA that is no longer to be trusted at all.
func TestDistrust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t)
		s := newService(t, client, nil)
		stop := run(t, s)
		defer stop()
		synctest.Wait()
		off := &fieldEdge{newEdgeKey(t).join(s.CA(), clusterID, "off"), "off", s.State().Trusted()}
		next, err := issuer.NewCA(clusterID)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []func(*rotation.State) (*rotation.State, error){
			func(s *rotation.State) (*rotation.State, error) { return s.Add(next, false) },
			(*rotation.State).Move,
			func(s *rotation.State) (*rotation.State, error) { return s.Drop(true) },
		} {
			rotate(t, client, step)
		}
		if code := off.renew(s); code != certs.CodeUnauthorized {
			t.Errorf("off: %q", code)
		}
	})
}

// TestReplacedCA: a CA that somebody puts in place of another is not taken over, for no
// edge would trust it.
func TestReplacedCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t)
		s := newService(t, client, nil)
		stop := run(t, s)
		defer stop()
		synctest.Wait()
		before := s.State()
		rotate(t, client, func(*rotation.State) (*rotation.State, error) {
			ca, err := issuer.NewCA(clusterID)
			return &rotation.State{CA: ca}, err
		})
		if s.State() != before {
			t.Error("taken over")
		}
		if err := client.CoreV1().Secrets(DefaultNamespace).Delete(t.Context(), rotation.SecretName, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s.State() != before {
			t.Error("a CA that was deleted is forgotten")
		}
	})
}
