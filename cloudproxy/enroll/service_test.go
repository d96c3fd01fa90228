package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
)

func TestReplicasAgreeOnOneCA(t *testing.T) {
	client := newClient(t)
	first := newService(t, client, nil)
	// The second replica looked before the first one wrote.
	looked := false
	client.PrependReactor("get", "secrets", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if get, ok := action.(clienttesting.GetAction); !ok || get.GetName() != rotation.SecretName || looked {
			return false, nil, nil
		}
		looked = true
		return true, nil, apierrors.NewNotFound(corev1.Resource("secrets"), rotation.SecretName)
	})
	second := newService(t, client, nil)
	if !looked || !first.CA().Certificate().Equal(second.CA().Certificate()) {
		t.Error("two replicas made two CAs")
	}
	info, err := ReadInfo(t.Context(), client, DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := info.CAHash()
	if err != nil || hash != first.CA().Hash() || info.Server != "proxy.example.com:7443" || info.Cluster != clusterID {
		t.Errorf("published %+v, hash %s, %v", info, hash, err)
	}
}

func TestBrokenCAIsNeverReplaced(t *testing.T) {
	client := newClient(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: DefaultNamespace, Name: rotation.SecretName},
		Data:       map[string][]byte{"tls.crt": []byte("garbage")},
	})
	s, err := New(Config{Client: client, Advertise: []string{"a:1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("got %v", err)
	}
	secret, err := client.CoreV1().Secrets(DefaultNamespace).Get(t.Context(), rotation.SecretName, metav1.GetOptions{})
	if err != nil || string(secret.Data["tls.crt"]) != "garbage" {
		t.Errorf("the secret was changed: %v, %v", secret.Data, err)
	}
	if s.CA() != nil || s.ServerCertificate() != nil {
		t.Error("a CA without Prepare")
	}
}

func TestConfigIsChecked(t *testing.T) {
	client := newClient(t)
	for name, cfg := range map[string]Config{
		"no client": {Advertise: []string{"a:1"}}, "no address": {Client: client},
		"no port": {Client: client, Advertise: []string{"a"}}, "no host": {Client: client, Advertise: []string{":1"}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestServerCertificateIsRenewedAtTwoThirds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, newClient(t), nil)
		stop := run(t, s)
		defer stop()
		synctest.Wait()
		first := s.ServerCertificate()
		for _, name := range []string{"proxy.example.com", "192.0.2.1", certs.ProxyServerName} {
			if err := first.Leaf.VerifyHostname(name); err != nil {
				t.Error(err)
			}
		}
		<-time.After(issuer.DefaultTTL*2/3 - time.Second)
		synctest.Wait()
		if s.ServerCertificate() != first {
			t.Error("renewed too early")
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		pair, err := s.GetCertificate(nil)
		if err != nil || pair == first {
			t.Errorf("not renewed: %v", err)
		}
	})
}

func TestRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t)
		s := newService(t, client, nil)
		var told []string
		s.OnRevoked(func(node string) { told = append(told, node) })
		stop := run(t, s)
		defer stop()
		synctest.Wait()

		id := func(node string) certs.Identity { return certs.Identity{Cluster: clusterID, Node: node} }
		cert := func() *x509.Certificate { return &x509.Certificate{NotBefore: time.Now().Truncate(time.Second)} }
		<-time.After(1300 * time.Millisecond)
		old := cert()
		if s.Revoked(id("edge-1"), old) {
			t.Fatal("revoked from the start")
		}
		until, err := Revoke(t.Context(), client, DefaultNamespace, "edge-1")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !s.Revoked(id("edge-1"), old) || !s.Revoked(id("edge-1"), cert()) {
			t.Error("a certificate signed before, or in the same second, is let in")
		}
		if s.Revoked(id("edge-2"), old) || s.Revoked(certs.Identity{Cluster: clusterID}, old) {
			t.Error("another identity is refused too")
		}
		if !slices.Equal(told, []string{"edge-1"}) {
			t.Errorf("told %v; want [edge-1]", told)
		}
		<-time.After(time.Until(until) + time.Second)
		if s.Revoked(id("edge-1"), cert()) {
			t.Error("a certificate from after the revocation is refused")
		}
		// Again: everything up to now, and whoever listens is told again.
		if _, err := Revoke(t.Context(), client, DefaultNamespace, "edge-1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !s.Revoked(id("edge-1"), cert()) || len(told) != 2 {
			t.Errorf("second revocation: told %v", told)
		}
		// A replica that starts now knows before it accepts anybody.
		if other := newService(t, client, nil); !other.Revoked(id("edge-1"), old) {
			t.Error("a new replica lets the node in until its informer has synced")
		}
		if _, err := Revoke(t.Context(), client, DefaultNamespace, "No Node"); err == nil {
			t.Error("revoked a name that no node can have")
		}
	})
}

func TestLimiterIsBounded(t *testing.T) {
	l := newLimiter(Limits{}.withDefaults())
	busy := netip.MustParseAddr("192.0.2.1")
	first := l.of(busy)
	for i := range 5 * maxSources {
		l.of(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		if l.of(busy) != first {
			t.Fatal("a source that keeps asking was forgotten")
		}
	}
	if len(l.sources.young) > maxSources || len(l.sources.old) > maxSources {
		t.Errorf("%d and %d sources remembered", len(l.sources.young), len(l.sources.old))
	}
	if l.of(netip.MustParseAddr("2001:db8::1")) != l.of(netip.MustParseAddr("2001:db8::2")) {
		t.Error("one /64 counts as many sources")
	}
	if l.of(netip.Addr{}) == nil || l.of(netip.MustParseAddr("::ffff:192.0.2.1")) != first {
		t.Error("odd addresses")
	}
}

// run starts the service and returns what stops it and checks its end.
func run(t *testing.T, s *Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	}
}
