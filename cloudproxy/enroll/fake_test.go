package enroll

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/enroll/jointoken"
)

const (
	clusterID = "5a1b6b3e-0c9d-4a7e-9a51-0d2f1c3b4a5d"
	source    = "192.0.2.7:40000"
)

// newClient is the fake clientset with what it lacks and these tests are about:
// optimistic locking on Secrets and ConfigMaps, preconditions, dry runs,
// generated names and creation times.
func newClient(tb testing.TB, objects ...runtime.Object) *fake.Clientset {
	tb.Helper()
	objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: clusterID}})
	client := fake.NewClientset(objects...)
	var mu sync.Mutex // makes read, compare and write one step
	version := 100
	stamp := func(obj runtime.Object) metav1.Object {
		m, err := meta.Accessor(obj)
		if err != nil {
			tb.Fatal(err)
		}
		version++
		m.SetResourceVersion(strconv.Itoa(version))
		return m
	}
	client.PrependReactor("create", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		create, ok := action.(clienttesting.CreateActionImpl)
		if !ok {
			return false, nil, nil
		}
		m := stamp(create.GetObject())
		m.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
		if m.GetName() == "" {
			m.SetName(m.GetGenerateName() + strconv.Itoa(version))
		}
		if len(create.CreateOptions.DryRun) > 0 {
			return true, create.GetObject(), nil
		}
		return true, create.GetObject(), client.Tracker().Create(create.GetResource(), create.GetObject(), create.GetNamespace())
	})
	client.PrependReactor("update", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		update, ok := action.(clienttesting.UpdateAction)
		if !ok {
			return false, nil, nil
		}
		m, err := meta.Accessor(update.GetObject())
		if err != nil {
			return true, nil, err
		}
		current, err := client.Tracker().Get(update.GetResource(), update.GetNamespace(), m.GetName())
		if err != nil {
			return true, nil, err
		}
		c, err := meta.Accessor(current)
		if err != nil {
			return true, nil, err
		}
		if c.GetResourceVersion() != m.GetResourceVersion() {
			return true, nil, apierrors.NewConflict(update.GetResource().GroupResource(), m.GetName(), fmt.Errorf("changed"))
		}
		stamp(update.GetObject())
		return true, update.GetObject(), client.Tracker().Update(update.GetResource(), update.GetObject(), update.GetNamespace())
	})
	return client
}

func newService(tb testing.TB, client *fake.Clientset, edit func(*Config)) *Service {
	tb.Helper()
	cfg := Config{Client: client, Advertise: []string{"proxy.example.com:7443", "192.0.2.1:7443"}}
	if edit != nil {
		edit(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Prepare(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s
}

// addToken stores a token the way the CLI does.
func addToken(tb testing.TB, client *fake.Clientset, g jointoken.Grant) jointoken.Token {
	tb.Helper()
	token := jointoken.Generate()
	secret, err := jointoken.NewSecret(token, g)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := client.CoreV1().Secrets(jointoken.Namespace).Create(tb.Context(), secret, metav1.CreateOptions{}); err != nil {
		tb.Fatal(err)
	}
	return token
}

func oneUse() jointoken.Grant {
	return jointoken.Grant{Expires: time.Now().Add(time.Hour), Limited: true, UsesLeft: 1}
}

func newCSR(tb testing.TB) string {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		tb.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func parseCert(tb testing.TB, data string) *x509.Certificate {
	tb.Helper()
	block, _ := pem.Decode([]byte(data))
	if block == nil {
		tb.Fatalf("no PEM: %q", data)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

type answer struct {
	status int
	header http.Header
	ok     certs.EnrollResponse
	no     certs.EnrollRefusal
	raw    string
}

func post(tb testing.TB, s *Service, req certs.EnrollRequest) answer {
	tb.Helper()
	body, err := json.Marshal(req)
	if err != nil {
		tb.Fatal(err)
	}
	return postRaw(tb, s, body)
}

func postRaw(tb testing.TB, s *Service, body []byte) answer {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, certs.EnrollPath, bytes.NewReader(body))
	r.RemoteAddr = source
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header(), raw: w.Body.String()}
	var into any = &a.no
	if w.Code == http.StatusOK {
		into = &a.ok
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		tb.Fatalf("status %d, body %q: %v", w.Code, w.Body, err)
	}
	return a
}

func logTo(buf *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(buf, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
