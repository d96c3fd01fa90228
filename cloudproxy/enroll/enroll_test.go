package enroll

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/enroll/jointoken"
)

func TestEnroll(t *testing.T) {
	client := newClient(t)
	var log bytes.Buffer
	s := newService(t, client, func(c *Config) { c.Logger = logTo(&log) })
	token := addToken(t, client, oneUse())
	req := certs.EnrollRequest{Token: token.Reveal(), NodeName: "edge-1", CSR: newCSR(t), AgentVersion: "v1", OS: "linux", Arch: "arm64"}
	got := post(t, s, req)
	if got.status != http.StatusOK || got.ok.Cluster != clusterID || got.ok.NodeName != "edge-1" {
		t.Fatalf("%d %s", got.status, got.raw)
	}
	cert := parseCert(t, got.ok.Certificate)
	want := certs.Identity{Cluster: clusterID, Node: "edge-1"}
	if id, err := certs.CertificateIdentity(cert); err != nil || id != want {
		t.Errorf("identity %v, %v; want %v", id, err, want)
	}
	if err := cert.CheckSignatureFrom(s.CA().Certificate()); err != nil {
		t.Error(err)
	}
	if parseCert(t, got.ok.CA).Equal(s.CA().Certificate()) == false {
		t.Error("another CA in the answer")
	}

	// The answer got lost: the same key may ask again, another one may not.
	if again := post(t, s, req); again.status != http.StatusOK {
		t.Errorf("retry: %d %s", again.status, again.raw)
	}
	req.CSR = newCSR(t)
	if other := post(t, s, req); other.status != http.StatusUnauthorized || other.no.Code != certs.CodeTokenUsed {
		t.Errorf("another key: %d %s", other.status, other.raw)
	}

	events, err := client.CoreV1().Events("kube-system").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(events.Items) != 2 {
		t.Fatalf("%d events, %v; want 2", len(events.Items), err)
	}
	for _, e := range events.Items {
		if e.InvolvedObject.Name != jointoken.SecretName(token.ID) || e.Message != "node edge-1 joined from 192.0.2.7" {
			t.Errorf("event about %s: %s", e.InvolvedObject.Name, e.Message)
		}
	}
	_, secret, _ := strings.Cut(token.Reveal(), ".")
	dump, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(dump)+log.String(), secret) {
		t.Error("the token's secret is in an event or in the log")
	}
}

func TestOneUseIsOneUseForConcurrentJoins(t *testing.T) {
	client := newClient(t)
	// Two replicas share nothing but the cluster.
	replicas := []*Service{newService(t, client, nil), newService(t, client, nil)}
	g := oneUse()
	g.UsesLeft = 2
	token := addToken(t, client, g)
	const joins = 12
	answers := make([]answer, joins)
	var wg sync.WaitGroup
	for i := range joins {
		req := certs.EnrollRequest{Token: token.Reveal(), NodeName: "edge-1", CSR: newCSR(t)}
		wg.Go(func() { answers[i] = post(t, replicas[i%2], req) })
	}
	wg.Wait()
	count := map[certs.EnrollCode]int{}
	for _, a := range answers {
		count[a.no.Code]++
	}
	if count[""] != 2 || count[certs.CodeTokenUsed] != joins-2 {
		t.Errorf("answers by code: %v; want 2 certificates and %d refusals", count, joins-2)
	}
}

func TestEnrollRefuses(t *testing.T) {
	edge := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "edge-1", Labels: map[string]string{ManagedLabel: ""}}}
	master := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "master"}}
	client := newClient(t, edge, master)
	s := newService(t, client, nil)
	csr := newCSR(t)
	good := addToken(t, client, jointoken.Grant{Expires: time.Now().Add(time.Hour)}).Reveal()
	expired := addToken(t, client, jointoken.Grant{Expires: time.Now().Add(-time.Hour)}).Reveal()
	bound := addToken(t, client, jointoken.Grant{Node: "edge-9"}).Reveal()
	s.revoked.set(map[string]string{"mistyped": "tomorrow"})

	tests := []struct {
		name   string
		req    certs.EnrollRequest
		status int
		code   certs.EnrollCode
	}{
		{"no token", certs.EnrollRequest{NodeName: "a", CSR: csr}, 401, certs.CodeUnauthorized},
		{"path in token", certs.EnrollRequest{Token: "../../x.0123456789abcdef", NodeName: "a", CSR: csr}, 401, certs.CodeUnauthorized},
		{"unknown token", certs.EnrollRequest{Token: "aaaaaa.0123456789abcdef", NodeName: "a", CSR: csr}, 401, certs.CodeUnauthorized},
		{"wrong secret", certs.EnrollRequest{Token: good[:7] + "0123456789abcdef", NodeName: "a", CSR: csr}, 401, certs.CodeUnauthorized},
		{"wrong secret, expired", certs.EnrollRequest{Token: expired[:7] + "0123456789abcdef", NodeName: "a", CSR: csr}, 401, certs.CodeUnauthorized},
		{"expired", certs.EnrollRequest{Token: expired, NodeName: "a", CSR: csr}, 401, certs.CodeTokenExpired},
		{"other node", certs.EnrollRequest{Token: bound, NodeName: "a", CSR: csr}, 403, certs.CodeOtherNode},
		{"bad name", certs.EnrollRequest{Token: good, NodeName: "../a", CSR: csr}, 400, certs.CodeBadRequest},
		{"no name", certs.EnrollRequest{Token: good, CSR: csr}, 400, certs.CodeBadRequest},
		{"no request", certs.EnrollRequest{Token: good, NodeName: "a"}, 400, certs.CodeBadRequest},
		{"foreign node", certs.EnrollRequest{Token: good, NodeName: "master", CSR: csr}, 409, certs.CodeNodeTaken},
		{"revoked for good", certs.EnrollRequest{Token: good, NodeName: "mistyped", CSR: csr}, 409, certs.CodeRevokedNow},
		{"own node again", certs.EnrollRequest{Token: good, NodeName: "edge-1", CSR: csr}, 200, ""},
	}
	generic := jointoken.Unauthorized().Text
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := post(t, s, tt.req)
			if got.status != tt.status || got.no.Code != tt.code {
				t.Errorf("got %d %s; want %d %s", got.status, got.raw, tt.status, tt.code)
			}
			if tt.code == certs.CodeUnauthorized && got.no.Text != generic {
				t.Errorf("text %q tells more than %q", got.no.Text, generic)
			}
		})
	}
	events, err := client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(events.Items) != 1 || events.Items[0].Reason != "EdgeJoinedAgain" {
		t.Errorf("events about nodes: %v, %v; want one EdgeJoinedAgain", events.Items, err)
	}
}

func TestBadBodies(t *testing.T) {
	s := newService(t, newClient(t), nil)
	for _, body := range []string{
		"", "x", "[]", `{"nodeName":1}`, `{"nodeName":"a"} {}`,
		`{"nodeName":"` + strings.Repeat("a", certs.MaxEnrollBody) + `"}`,
	} {
		if got := postRaw(t, s, []byte(body)); got.status != http.StatusBadRequest {
			t.Errorf("%.30s: %d %s", body, got.status, got.raw)
		}
	}
}

func TestAPIErrorsAreNotToldToStrangers(t *testing.T) {
	client := newClient(t)
	s := newService(t, client, nil)
	client.PrependReactor("get", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("etcd at 10.1.2.3 is on fire")
	})
	got := post(t, s, certs.EnrollRequest{Token: "aaaaaa.0123456789abcdef", NodeName: "a", CSR: newCSR(t)})
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || strings.Contains(got.raw, "10.1.2.3") {
		t.Errorf("%d %v %s", got.status, got.header, got.raw)
	}
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, newClient(t), func(c *Config) { c.Limits = Limits{PerSource: 1, PerSourceBurst: 3} })
		try := func() int { return postRaw(t, s, []byte("{}")).status }
		for range 3 {
			if got := try(); got != http.StatusBadRequest {
				t.Fatalf("within the burst: %d", got)
			}
		}
		if got := try(); got != http.StatusTooManyRequests {
			t.Errorf("above the burst: %d", got)
		}
		<-time.After(time.Second)
		if got := try(); got != http.StatusBadRequest {
			t.Errorf("a second later: %d", got)
		}
	})
}

func TestSweepRemovesWhatEndedLongAgo(t *testing.T) {
	now := time.Now()
	client := newClient(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-kubead"}, Type: jointoken.SecretType,
		Data: map[string][]byte{"token-id": []byte("kubead"), "expiration": []byte("2001-01-01T00:00:00Z")},
	})
	s := newService(t, client, nil)
	kept := []string{
		"kubead", // not ours
		addToken(t, client, jointoken.Grant{}).ID,
		addToken(t, client, jointoken.Grant{Expires: now.Add(-time.Hour)}).ID,
	}
	gone := addToken(t, client, jointoken.Grant{Expires: now.Add(-25 * time.Hour)}).ID
	if err := s.sweepOnce(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	list, err := client.CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	for _, secret := range list.Items {
		left[strings.TrimPrefix(secret.Name, "bootstrap-token-")] = true
	}
	for _, id := range kept {
		if !left[id] {
			t.Errorf("token %s is gone", id)
		}
	}
	if left[gone] {
		t.Errorf("token %s is still there", gone)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"token":"abcdef.0123456789abcdef","nodeName":"edge-1","csr":"x"}`))
	f.Add([]byte(`{"nodeName":"a"} 1`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := decodeRequest(bytes.NewReader(body))
		if err == nil && certs.ValidateNodeName(req.NodeName) != nil {
			t.Fatalf("took node name %q", req.NodeName)
		}
		var token struct{ Token string }
		if err != nil && json.Unmarshal(body, &token) == nil && len(token.Token) > 8 &&
			strings.Contains(err.Error(), token.Token) && !strings.Contains(err.Error(), "node name") {
			t.Fatalf("the error shows the token: %v", err)
		}
	})
}
