package enroll

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/enroll/jointoken"
)

// TestUsesAreCounted: a token for three machines joins three, and each leaves an Event
// that names it.
func TestUsesAreCounted(t *testing.T) {
	client := newClient(t)
	s := newService(t, client, nil)
	token := addToken(t, client, jointoken.Grant{Expires: time.Now().Add(time.Hour), Limited: true, UsesLeft: 3})
	for i := range 5 {
		got := post(t, s, certs.EnrollRequest{Token: token.Reveal(), NodeName: fmt.Sprintf("edge-%d", i), CSR: newCSR(t)})
		if want := i < 3; (got.status == http.StatusOK) != want {
			t.Errorf("machine %d: %d %s", i, got.status, got.raw)
		}
	}
	secret, err := client.CoreV1().Secrets(jointoken.Namespace).Get(t.Context(), jointoken.SecretName(token.ID), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if g, ok := jointoken.ReadGrant(secret); !ok || g.UsesLeft != 0 || len(g.Used) != 3 {
		t.Errorf("left %d, used by %d", g.UsesLeft, len(g.Used))
	}
	events, err := client.CoreV1().Events(jointoken.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(events.Items) != 3 {
		t.Fatalf("%d events, %v", len(events.Items), err)
	}
	for i, e := range events.Items {
		if want := fmt.Sprintf("node edge-%d joined from 192.0.2.7", i); e.Message != want || e.Reason != "JoinTokenUsed" {
			t.Errorf("event %d: %s %s", i, e.Reason, e.Message)
		}
	}
}

// TestGuessing: who tries tokens learns nothing of which exist, and is slowed down.
func TestGuessing(t *testing.T) {
	client := newClient(t)
	s := newService(t, client, nil)
	known := addToken(t, client, oneUse())
	other := addToken(t, client, jointoken.Grant{Expires: time.Now().Add(-time.Hour), Limited: true, UsesLeft: 1})
	csr := newCSR(t)
	var answers []string
	for _, guess := range []string{
		known.ID + ".aaaaaaaaaaaaaaaa", other.ID + ".aaaaaaaaaaaaaaaa", "zzzzzz.aaaaaaaaaaaaaaaa", known.ID + ".", "", "../x.aaaaaaaaaaaaaaaa",
		known.Reveal()[:22] + "!", strings.ToUpper(known.Reveal()),
	} {
		got := post(t, s, certs.EnrollRequest{Token: guess, NodeName: "edge-1", CSR: csr})
		answers = append(answers, fmt.Sprint(got.status, got.raw))
	}
	for _, a := range answers {
		if a != answers[0] || !strings.HasPrefix(a, "401") {
			t.Errorf("answers differ:\n%s\n%s", answers[0], a)
		}
	}
}

// from posts nothing of use, from an address of which there are many.
func from(t *testing.T, s *Service, addr string) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, certs.EnrollPath, strings.NewReader("{}"))
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(addr), 4711).String()
	r.Header.Set("X-Forwarded-For", "198.51.100.1")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Code
}

// TestRateLimitOfAll: many sources share what all of them may; and one that floods takes
// nothing of it from others.
func TestRateLimitOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, newClient(t), func(c *Config) {
			c.Limits = Limits{PerSource: 1, PerSourceBurst: 2, Total: 1, TotalBurst: 10}
		})
		for range 100 {
			from(t, s, "192.0.2.1")
		}
		passed := 0
		for i := range 20 {
			if from(t, s, fmt.Sprintf("192.0.2.%d", 10+i)) != http.StatusTooManyRequests {
				passed++
			}
		}
		if passed != 8 { // the first took two
			t.Errorf("%d of 20 sources came through", passed)
		}
		<-time.After(3 * time.Second)
		for i := range 4 {
			want := http.StatusBadRequest
			if i == 3 {
				want = http.StatusTooManyRequests
			}
			if got := from(t, s, fmt.Sprintf("192.0.2.%d", 100+i)); got != want {
				t.Errorf("source %d after three seconds: %d", i, got)
			}
		}
	})
}

// TestRenewalsAreLimited: an edge renews as often as it has to, and no more.
func TestRenewalsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, newClient(t), nil)
		refused := func(node string) bool {
			here, there := net.Pipe()
			go func() { _ = s.ServeRenewal(t.Context(), node, there) }()
			go func() { _, _ = here.Write(newEdgeKey(t).join(s.CA(), clusterID, node).request()) }()
			var a certs.RenewAnswer
			if err := json.NewDecoder(here).Decode(&a); err != nil {
				t.Fatal(err)
			}
			_ = here.Close()
			return a.Refused != nil && a.Refused.Code == certs.CodeTooMany
		}
		for i := range 10 {
			if got, want := refused("edge-1"), i >= renewalsBurst; got != want {
				t.Errorf("renewal %d: refused %t", i, got)
			}
		}
		if refused("edge-2") {
			t.Error("another edge is refused")
		}
		<-time.After(21 * time.Second)
		if refused("edge-1") {
			t.Error("refused 21 s later")
		}
	})
}

// FuzzEnroll: whatever is posted, a certificate is given for the token's one node only,
// and no answer holds a secret.
func FuzzEnroll(f *testing.F) {
	client := newClient(f)
	s := newService(f, client, func(c *Config) { c.Limits = Limits{PerSource: 1e9, PerSourceBurst: 1e9, Total: 1e9, TotalBurst: 1e9} })
	token := addToken(f, client, jointoken.Grant{Expires: time.Now().Add(240 * time.Hour), Node: "edge-1"})
	_, secret, _ := strings.Cut(token.Reveal(), ".")
	body := func(token, node, csr string) []byte {
		b, err := json.Marshal(certs.EnrollRequest{Token: token, NodeName: node, CSR: csr})
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	csr := newCSR(f)
	f.Add(body(token.Reveal(), "edge-1", csr))
	f.Add(body(token.Reveal(), "edge-2", csr))
	f.Add(body(token.ID+".aaaaaaaaaaaaaaaa", "edge-1", csr))
	f.Add([]byte(`{"token":"` + token.Reveal() + `"} {}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := postRaw(t, s, b)
		if strings.Contains(a.raw, secret) {
			t.Errorf("the answer holds the secret: %s", a.raw)
		}
		if a.status != http.StatusOK {
			return
		}
		id, err := certs.CertificateIdentity(parseCert(t, a.ok.Certificate))
		if err != nil || id.Node != "edge-1" || !strings.Contains(string(b), secret) {
			t.Errorf("%q gets a certificate of %v, %v", b, id, err)
		}
	})
}
