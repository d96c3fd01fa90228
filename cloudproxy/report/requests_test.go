package report

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// TestRequestsBeyondTheCache: a pod gets no more than it may have from a proxy whose cache
// stands still, until the API has cleaned up.
func TestRequestsBeyondTheCache(t *testing.T) {
	const limit = requestsOnTop + 2*requestsPerSource
	var values [][]byte
	for range limit + 1 {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		value, err := (&certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, Spec: certificatesv1.PodCertificateRequestSpec{
			PodName: "web", PodUID: "u1", SignerName: "example.com/ca", MaxExpirationSeconds: new(int32(3600)), StubPKCS10Request: pkcs10(t, key),
		}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
	}
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(certifiedPod(),
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "me", UID: "sa"}},
			&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "e1", UID: "n1"}})
		r, err := New(Config{Client: client})
		if err != nil {
			t.Fatal(err)
		}
		for i, value := range values[:limit] {
			if err := r.writeCertificate(t.Context(), "e1", value); err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
		}
		if err := r.writeCertificate(t.Context(), "e1", values[limit]); !errors.Is(err, errAskAgain) {
			t.Errorf("one too many: %v", err)
		}
		<-time.After(requestLife + time.Minute)
		if err := r.writeCertificate(t.Context(), "e1", values[limit]); err != nil {
			t.Errorf("after half an hour: %v", err)
		}
		if n := len(r.requests.made["u1"]); n != 1 {
			t.Errorf("%d are still counted", n)
		}
	})
}

// TestRequests: what was not made counts for nothing, what may have been counts, and what
// was made is asked for anew when it can't be that the cache has yet to tell of it.
func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r requests
		for i := range 2 {
			if !r.enter("u", strconv.Itoa(i), []string{"x", "0"}, 3) {
				t.Errorf("%d is one too many", i)
			}
		}
		if r.enter("u", "2", []string{"x", "0"}, 3) || !r.enter("v", "2", nil, 1) || !r.enter("v", "2", nil, 1) {
			t.Error("the bound is not of the pod's requests")
		}
		if r.recent("u", "0") {
			t.Error("taken for made, which is about to be")
		}
		r.leave("u", "0", nil)
		r.leave("u", "1", errAskAgain)
		if r.recent("u", "1") || !r.recent("u", "0") || !r.enter("u", "2", []string{"x", "0"}, 3) {
			t.Error("what was not made counts")
		}
		r.leave("u", "2", context.DeadlineExceeded)
		if r.recent("u", "2") || r.enter("u", "3", []string{"x", "0"}, 3) || !r.enter("u", "2", []string{"x", "0"}, 3) {
			t.Error("what may have been made does not count, or is not asked for again")
		}
		r.leave("u", "2", &badReportError{errors.New("never")})
		r.leave("v", "2", errAskAgain) // one of two lanes
		if r.enter("v", "3", nil, 1) {
			t.Error("what is being made does not count")
		}
		r.leave("v", "2", nil)
		if !r.recent("v", "2") {
			t.Error("taken for not made, which another lane has made")
		}
		<-time.After(cacheLag)
		if r.recent("u", "0") {
			t.Error("taken for made, which may have been deleted since")
		}
		if !r.enter("u", "0", nil, 1) {
			t.Error("counted twice")
		}
	})
}
