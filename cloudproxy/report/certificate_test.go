package report

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/skerry-io/skerry/tunnel/wire"
)

func pkcs10(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func certifiedPod() *corev1.Pod {
	source := func(signer, key string, seconds int32, annotations map[string]string) corev1.VolumeProjection {
		return corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{
			SignerName: signer, KeyType: key, MaxExpirationSeconds: &seconds, UserAnnotations: annotations, CredentialBundlePath: "b",
		}}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u1"},
		Spec: corev1.PodSpec{NodeName: "e1", ServiceAccountName: "me", Volumes: []corev1.Volume{
			{Name: "plain"},
			{Name: "id", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{DownwardAPI: &corev1.DownwardAPIProjection{}},
				source("example.com/ca", "ED25519", 3600, nil),
				source("example.com/other", "ECDSAP256", 7200, map[string]string{"example.com/a": "b"}),
			}}}},
		}},
	}
}

// TestCertificateRequest: an edge has just those certificates asked for that its own pods
// want, and says nothing of what the API knows.
func TestCertificateRequest(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edDER, ecDER := pkcs10(t, ed), pkcs10(t, ec)
	forged := append([]byte(nil), edDER...)
	forged[len(forged)-1] ^= 1
	good := certificatesv1.PodCertificateRequestSpec{
		PodName: "web", PodUID: "u1", SignerName: "example.com/ca", MaxExpirationSeconds: new(int32(3600)), StubPKCS10Request: edDER,
		// Whatever an edge says of these is not what counts.
		ServiceAccountName: "admin", ServiceAccountUID: "x", NodeName: "e2", NodeUID: "x",
	}
	wide := unsigned(t, 6000)
	bad := func(err error) bool { var b *badReportError; return errors.As(err, &b) }
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	for _, tt := range []struct {
		name    string
		asks    func(s *certificatesv1.PodCertificateRequestSpec)
		pod     func(p *corev1.Pod)
		refuse  func(a clienttesting.Action) error
		had     int
		unknown bool                 // what it has had
		want    func(err error) bool // nil is a request
	}{
		{name: "one"},
		{name: "another source", asks: func(s *certificatesv1.PodCertificateRequestSpec) {
			s.SignerName, s.MaxExpirationSeconds, s.StubPKCS10Request = "example.com/other", new(int32(7200)), ecDER
			s.UnverifiedUserAnnotations = map[string]string{"example.com/a": "b"}
		}},
		{name: "as many as it may have", had: requestsOnTop + 2*requestsPerSource - 1},
		{name: "too many", had: requestsOnTop + 2*requestsPerSource, want: is(errAskAgain)},
		{name: "who knows how many", unknown: true, want: is(errAskAgain)},
		{name: "no such signer", asks: func(s *certificatesv1.PodCertificateRequestSpec) { s.SignerName = "kubernetes.io/x" }, want: is(errForeign)},
		{name: "longer than the pod wants", asks: func(s *certificatesv1.PodCertificateRequestSpec) { s.MaxExpirationSeconds = new(int32(7200)) }, want: is(errForeign)},
		{name: "as long as can be", asks: func(s *certificatesv1.PodCertificateRequestSpec) { s.MaxExpirationSeconds = nil }, want: is(errForeign)},
		{name: "another type of key", asks: func(s *certificatesv1.PodCertificateRequestSpec) { s.StubPKCS10Request = ecDER }, want: is(errForeign)},
		{name: "annotations that the pod has not", asks: func(s *certificatesv1.PodCertificateRequestSpec) {
			s.UnverifiedUserAnnotations = map[string]string{"a/b": "c"}
		}, want: is(errForeign)},
		{name: "another's pod", pod: func(p *corev1.Pod) { p.Spec.NodeName = "e2" }, want: is(errForeign)},
		{name: "a mirror", pod: func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }, want: is(errForeign)},
		{name: "a pod that has finished", pod: func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, want: is(errGone)},
		{name: "a pod that was replaced", asks: func(s *certificatesv1.PodCertificateRequestSpec) { s.PodUID = "u0" }, want: is(errGone)},
		{name: "a pod that is gone", asks: func(s *certificatesv1.PodCertificateRequestSpec) { s.PodName = "none" }, want: is(errGone)},
		{name: "no pod", asks: func(s *certificatesv1.PodCertificateRequestSpec) { s.PodName = "" }, want: bad},
		{name: "no key", asks: func(s *certificatesv1.PodCertificateRequestSpec) { s.StubPKCS10Request = nil }, want: bad},
		{name: "somebody else's key", asks: func(s *certificatesv1.PodCertificateRequestSpec) { s.StubPKCS10Request = forged }, want: bad},
		{name: "somebody else's key for another's pod", pod: func(p *corev1.Pod) { p.Spec.NodeName = "e2" }, asks: func(s *certificatesv1.PodCertificateRequestSpec) { s.StubPKCS10Request = forged }, want: is(errForeign)},
		{name: "a key of no known type", asks: func(s *certificatesv1.PodCertificateRequestSpec) { s.StubPKCS10Request = wide }, pod: func(p *corev1.Pod) {
			p.Spec.Volumes[1].Projected.Sources[1].PodCertificate.KeyType = "RSA6000"
		}, want: func(err error) bool { return bad(err) && !errors.Is(err, rsa.ErrVerification) }},
		{name: "no such account", pod: func(p *corev1.Pod) { p.Spec.ServiceAccountName = "none" }, want: is(errAskAgain)},
		{name: "not served", refuse: func(clienttesting.Action) error { return apierrors.NewNotFound(schema.GroupResource{}, "") }, want: is(errAskAgain)},
		{name: "not allowed", refuse: func(clienttesting.Action) error {
			return apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("old roles"))
		}, want: is(errAskAgain)},
		{name: "failed", refuse: func(clienttesting.Action) error {
			return apierrors.NewInternalError(errors.New("failed calling webhook"))
		}, want: func(err error) bool { return apierrors.IsInternalError(err) && !errors.Is(err, errAskAgain) }},
		{name: "invalid", refuse: func(clienttesting.Action) error {
			return apierrors.NewInvalid(schema.GroupKind{}, "", nil)
		}, want: hopeless},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod, asked := certifiedPod(), good
			if tt.pod != nil {
				tt.pod(pod)
			}
			if tt.asks != nil {
				tt.asks(&asked)
			}
			client := fake.NewClientset(pod,
				&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "me", UID: "sa"}},
				&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "e1", UID: "n1"}})
			if tt.refuse != nil {
				client.PrependReactor("create", "podcertificaterequests", func(a clienttesting.Action) (bool, runtime.Object, error) {
					return true, nil, tt.refuse(a)
				})
			}
			r, err := New(Config{Client: client, Requests: func(uid types.UID) ([]string, bool) {
				if uid != asked.PodUID {
					t.Errorf("requests of %s", uid)
				}
				var names []string
				for i := range tt.had {
					names = append(names, strconv.Itoa(i))
				}
				return names, !tt.unknown
			}})
			if err != nil {
				t.Fatal(err)
			}
			value, err := (&certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "any"}, Spec: asked}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			report := wire.Report{Subject: wire.SubjectCertificate, Value: value}
			err = r.write(t.Context(), "e1", stamp{}, report)
			list, listErr := client.CertificatesV1().PodCertificateRequests("").List(t.Context(), metav1.ListOptions{})
			if listErr != nil {
				t.Fatal(listErr)
			}
			if tt.want != nil {
				if err == nil || !tt.want(err) || len(list.Items) != 0 {
					t.Errorf("error %v, %d requests", err, len(list.Items))
				}
				return
			}
			if err == nil {
				client.ClearActions()
				err = r.write(t.Context(), "e1", stamp{}, report) // as after a stream that was cut
			}
			if again := client.Actions(); len(again) != 0 {
				t.Errorf("what is there costs the API %v", again)
			}
			if err != nil || len(list.Items) != 1 {
				t.Fatalf("%v, %d requests", err, len(list.Items))
			}
			want := certificatesv1.PodCertificateRequest{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: "default", Name: wire.CertificateRequestName(asked.StubPKCS10Request), Labels: map[string]string{"skerry.io/edge": "true"},
					OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "web", UID: "u1"}},
				},
				Spec: asked,
			}
			want.Spec.ServiceAccountName, want.Spec.ServiceAccountUID, want.Spec.NodeName, want.Spec.NodeUID = "me", "sa", "e1", "n1"
			got := list.Items[0]
			got.TypeMeta, got.ManagedFields = metav1.TypeMeta{}, nil
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("request (-want +got):\n%s", d)
			}
		})
	}
	if err := new(Receiver).writeCertificate(t.Context(), "e1", []byte{1}); !bad(err) {
		t.Errorf("garbage: %v", err)
	}
}

// certifiedReport gives a pod as the API does, and its request for a certificate.
func certifiedReport(t *testing.T) (*corev1.Pod, []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pod := certifiedPod()
	pod.TypeMeta = throttledPod.TypeMeta
	value, err := (&certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, Spec: certificatesv1.PodCertificateRequestSpec{
		PodName: "web", PodUID: "u1", SignerName: "example.com/ca", MaxExpirationSeconds: new(int32(3600)), StubPKCS10Request: pkcs10(t, key),
	}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return pod, value
}

// TestFailingCertificates: what the API server does not make, for whatever reason, does
// not stay in the way of other pods' requests.
func TestFailingCertificates(t *testing.T) {
	pod, value := certifiedReport(t)
	for code, tries := range map[int]int{http.StatusForbidden: 1, http.StatusInternalServerError: maxCertificateTries} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			tried := 0
			api := func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/podcertificaterequests") {
					mu.Lock()
					tried++
					mu.Unlock()
					reason := map[int]metav1.StatusReason{http.StatusForbidden: metav1.StatusReasonForbidden, http.StatusInternalServerError: metav1.StatusReasonInternalError}[code]
					return answer(r, code, nil, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: reason, Code: int32(code)})
				}
				if strings.Contains(r.URL.Path, "/serviceaccounts/") || strings.Contains(r.URL.Path, "/nodes/") {
					return answer(r, http.StatusOK, nil, map[string]any{"metadata": map[string]any{"name": "x", "uid": "x"}})
				}
				return answer(r, http.StatusOK, nil, pod)
			}
			acked, stop := serveReports(t, api, wire.Report{Seq: 1, Subject: wire.SubjectCertificate, Key: wire.CertificateKey("default", "web", "id", 1), Value: value})
			wait(time.Hour)
			mu.Lock()
			if got := acked(); !got[1] || tried != tries {
				t.Errorf("%d: tried %d times, want %d, acknowledged: %v", code, tried, tries, got)
			}
			mu.Unlock()
			stop()
		})
	}
}

// TestSlowCertificatesDelayNoStatus has the API server answer to no request for a
// certificate.
func TestSlowCertificatesDelayNoStatus(t *testing.T) {
	pod, value := certifiedReport(t)
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		hanging := 0
		api := func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/podcertificaterequests") {
				mu.Lock()
				hanging++
				mu.Unlock()
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			if strings.Contains(r.URL.Path, "/serviceaccounts/") || strings.Contains(r.URL.Path, "/nodes/") {
				return answer(r, http.StatusOK, nil, map[string]any{"metadata": map[string]any{"name": "x", "uid": "x"}})
			}
			return answer(r, http.StatusOK, nil, pod)
		}
		var reports []wire.Report
		for i := range uint64(20) {
			reports = append(reports, wire.Report{Seq: i + 1, Subject: wire.SubjectCertificate, Key: wire.CertificateKey("default", "web", "id", int(i)), Value: value})
		}
		acked, stop := serveReports(t, api, append(reports, statusReport(t, 21))...)
		wait(time.Second)
		mu.Lock()
		if got := acked(); hanging != maxEventWrites || !got[21] || len(got) != 1 {
			t.Errorf("%d hang, acknowledged: %v", hanging, got)
		}
		mu.Unlock()
		stop()
	})
}
