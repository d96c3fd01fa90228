package servingcert

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// cluster is an API with a signer that acts when it is told to.
type cluster struct {
	t      *testing.T
	client *fake.Clientset
	key    *ecdsa.PrivateKey
	ca     *x509.Certificate
	log    *syncBuffer
	life   time.Duration
	serial int64

	mu     sync.Mutex // guards the following field
	forbid bool       // approvals are
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cluster"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, client: fake.NewClientset(), key: key, ca: ca, log: &syncBuffer{}, life: 90 * 24 * time.Hour}
	c.client.PrependReactor("update", "certificatesigningrequests", func(a clienttesting.Action) (bool, runtime.Object, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if a.GetSubresource() == "approval" && c.forbid {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "certificatesigningrequests"}, "x", errors.New("no"))
		}
		return false, nil, nil
	})
	return c
}

func (c *cluster) forbidApproval(forbid bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forbid = forbid
}

// start runs a Keeper; the function ends it.
func (c *cluster) start(names ...string) (*Keeper, func()) {
	c.t.Helper()
	if len(names) == 0 {
		names = []string{"192.0.2.1"}
	}
	k, err := New(Config{
		Client: c.client, Namespace: "ns", Names: names, Log: slog.New(slog.NewTextHandler(c.log, nil)),
		Fallback: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
	c.t.Cleanup(stop)
	return k, stop
}

func (c *cluster) requests() []certificatesv1.CertificateSigningRequest {
	c.t.Helper()
	list, err := c.client.CertificatesV1().CertificateSigningRequests().List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return list.Items
}

// sign answers the approved requests that have no answer, and counts them.
func (c *cluster) sign(change ...func(*x509.Certificate)) (n int) {
	c.t.Helper()
	for _, csr := range c.requests() {
		if len(csr.Status.Certificate) > 0 || decided(&csr, certificatesv1.CertificateApproved) == nil {
			continue
		}
		block, _ := pem.Decode(csr.Spec.Request)
		req, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			c.t.Fatal(err)
		}
		c.serial++
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(c.serial), Subject: req.Subject, DNSNames: req.DNSNames, IPAddresses: req.IPAddresses,
			NotBefore: time.Now(), NotAfter: time.Now().Add(c.life),
		}
		for _, f := range change {
			f(tmpl)
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, c.ca, req.PublicKey, c.key)
		if err != nil {
			c.t.Fatal(err)
		}
		csr.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if _, err := c.client.CertificatesV1().CertificateSigningRequests().UpdateStatus(c.t.Context(), &csr, metav1.UpdateOptions{}); err != nil {
			c.t.Fatal(err)
		}
		n++
	}
	return n
}

// decide puts a condition on the only request without one.
func (c *cluster) decide(t certificatesv1.RequestConditionType) {
	c.t.Helper()
	for _, csr := range c.requests() {
		if len(csr.Status.Conditions) == 0 {
			csr.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: t, Status: corev1.ConditionTrue, Reason: "ByHand"}}
			if _, err := c.client.CertificatesV1().CertificateSigningRequests().UpdateApproval(c.t.Context(), csr.Name, &csr, metav1.UpdateOptions{}); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// serving gives the serial number of what is served, 0 for the fallback.
func serving(t *testing.T, k *Keeper) int64 {
	t.Helper()
	cert, err := k.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Leaf == nil {
		return 0
	}
	return cert.Leaf.SerialNumber.Int64()
}

func wantServing(t *testing.T, k *Keeper, want int64) {
	t.Helper()
	if got := serving(t, k); got != want {
		t.Fatalf("certificate %d is served, want %d", got, want)
	}
}

func wait(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // virtual time
	synctest.Wait()
}

func TestIssuedAndRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		k, _ := c.start("192.0.2.1", "2001:db8::1", "proxy.example.com")
		wait(time.Second)
		wantServing(t, k, 0)
		csrs := c.requests()
		if len(csrs) != 1 || csrs[0].Spec.SignerName != "kubernetes.io/kubelet-serving" || decided(&csrs[0], certificatesv1.CertificateApproved) == nil {
			t.Fatalf("requests: %+v", csrs)
		}
		block, _ := pem.Decode(csrs[0].Spec.Request)
		req, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || req.CheckSignature() != nil || req.Subject.String() != "CN=system:node:skerry-cloudproxy,O=system:nodes" ||
			len(req.DNSNames) != 1 || len(req.IPAddresses) != 2 {
			t.Errorf("request %v %v %v, %v", req.Subject, req.DNSNames, req.IPAddresses, err)
		}
		c.sign()
		wait(time.Minute)
		wantServing(t, k, 1)
		if cond := k.Condition(); cond == nil || cond.Status != corev1.ConditionTrue {
			t.Errorf("condition %+v", cond)
		}
		issued := time.Now()
		for c.sign() == 0 && time.Since(issued) < c.life {
			wait(time.Hour)
		}
		if age := time.Since(issued); age < c.life*6/10-2*time.Hour || age > c.life*2/3+2*time.Hour {
			t.Errorf("renewed after %v of %v", age, c.life)
		}
		wantServing(t, k, 1)
		wait(time.Minute)
		wantServing(t, k, 2)
	})
}

// TestReplicasShare: one request, however many replicas and restarts there are.
func TestReplicasShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.forbidApproval(true)
		_, stop1 := c.start()
		k2, _ := c.start()
		wait(time.Minute)
		stop1()
		k1, _ := c.start()
		wait(time.Minute)
		// The fake API has no conflicts, so the first two may have asked at once.
		if n := len(c.requests()); n > 2 {
			t.Fatalf("%d requests", n)
		}
		c.forbidApproval(false)
		wait(time.Minute)
		c.sign()
		wait(time.Minute)
		if a, b := serving(t, k1), serving(t, k2); a == 0 || a != b {
			t.Errorf("certificates %d and %d are served", a, b)
		}
		k3, _ := c.start()
		wait(time.Second)
		wantServing(t, k3, serving(t, k1))
	})
}

// TestApprovedByHand is for a cluster where the proxy may not approve.
func TestApprovedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.forbidApproval(true)
		k, _ := c.start()
		wait(time.Second)
		if cond := k.Condition(); cond != nil {
			t.Errorf("at once: condition %+v", cond)
		}
		wait(2 * time.Hour)
		name := c.requests()[0].Name
		cond := k.Condition()
		if cond == nil || cond.Status != corev1.ConditionFalse || cond.Reason != "WaitingForApproval" || !strings.Contains(cond.Message, "kubectl certificate approve "+name) {
			t.Errorf("condition %+v", cond)
		}
		if n := strings.Count(c.log.String(), "kubectl certificate approve "+name); n != 1 {
			t.Errorf("told %d times:\n%s", n, c.log)
		}
		wantServing(t, k, 0)
		c.forbidApproval(false)
		c.decide(certificatesv1.CertificateApproved)
		c.sign()
		wait(time.Minute)
		wantServing(t, k, 1)
		if cond := k.Condition(); cond == nil || cond.Status != corev1.ConditionTrue {
			t.Errorf("after all: condition %+v", cond)
		}
	})
}

// TestNobodySigns is a cluster without that signer, and then one with it.
func TestNobodySigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		k, _ := c.start()
		wait(time.Hour)
		wantServing(t, k, 0)
		if cond := k.Condition(); cond == nil || cond.Reason != "WaitingForSigner" {
			t.Errorf("condition %+v", cond)
		}
		// What nobody signs, Kubernetes removes.
		if err := c.client.CertificatesV1().CertificateSigningRequests().Delete(t.Context(), c.requests()[0].Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		c.sign()
		wait(time.Minute)
		wantServing(t, k, 1)
	})
}

// TestExpired: when nobody renews, the product's CA serves again.
func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.life = 12 * time.Hour
		k, _ := c.start()
		wait(time.Second)
		c.sign()
		wait(time.Minute)
		wantServing(t, k, 1)
		wait(c.life - time.Hour)
		wantServing(t, k, 1)
		if cond := k.Condition(); cond == nil || cond.Status != corev1.ConditionFalse || !strings.Contains(cond.Message, "the certificate in use ends at") {
			t.Errorf("condition %+v", cond)
		}
		wait(time.Hour)
		wantServing(t, k, 0)
	})
}

// TestDeniedAgainAndAgain must not fill the API with requests.
func TestDeniedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.forbidApproval(true)
		k, _ := c.start()
		deny := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); {
				c.forbidApproval(false)
				c.decide(certificatesv1.CertificateDenied)
				c.forbidApproval(true)
				wait(time.Second)
			}
		}
		deny(4 * time.Hour)
		if n := len(c.requests()); n < 5 || n > 18 {
			t.Errorf("%d requests in four hours", n)
		}
		if cond := k.Condition(); cond == nil || cond.Status != corev1.ConditionFalse {
			t.Errorf("condition %+v", cond)
		}
	})
}

// TestAnswersThatAreNoUse: what was not asked for is not served.
func TestAnswersThatAreNoUse(t *testing.T) {
	for name, change := range map[string]func(*x509.Certificate){
		"other names": func(x *x509.Certificate) { x.IPAddresses = nil; x.DNSNames = []string{"other"} },
		"ended":       func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				k, _ := c.start()
				wait(time.Second)
				c.sign(change)
				wait(30 * time.Minute)
				wantServing(t, k, 0)
				if n := len(c.requests()); n != 2 {
					t.Errorf("%d requests, want another one", n)
				}
				c.sign()
				wait(time.Minute)
				wantServing(t, k, 2)
			})
		})
	}
}

// TestForeignRequest: what lies under our name is approved only if it is ours.
func TestForeignRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.forbidApproval(true)
		_, stop := c.start("192.0.2.1")
		wait(time.Second)
		stop()
		c.forbidApproval(false)
		// The proxy's address is another one now, and so the request is not ours.
		k, _ := c.start("192.0.2.2")
		wait(time.Minute)
		for _, csr := range c.requests() {
			block, _ := pem.Decode(csr.Spec.Request)
			req, err := x509.ParseCertificateRequest(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			approved := decided(&csr, certificatesv1.CertificateApproved) != nil
			if old := req.IPAddresses[0].String() == "192.0.2.1"; old == approved {
				t.Errorf("request for %v: approved is %t", req.IPAddresses, approved)
			}
		}
		c.sign()
		wait(time.Minute)
		wantServing(t, k, 1)
	})
}

// TestForbidden is a proxy with the rights of an older release.
func TestForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.client.PrependReactor("*", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, SecretName, errors.New("no"))
		})
		k, _ := c.start()
		wait(24 * time.Hour)
		wantServing(t, k, 0)
		if n := strings.Count(c.log.String(), "\n"); n != 1 {
			t.Errorf("%d lines in a day, want one:\n%s", n, c.log)
		}
	})
}
