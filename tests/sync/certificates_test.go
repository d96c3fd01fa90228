package sync

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
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
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	cloudreport "github.com/skerry-io/skerry/cloudproxy/report"
	edgedesired "github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/pods/certificates"
	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
	"github.com/skerry-io/skerry/edgeagent/uplink"
)

// certified is an edge whose pods have certificates: both streams, on one disk.
type certified struct {
	*edge
	keeper *certificates.Keeper
	cancel context.CancelFunc
	wg     sync.WaitGroup
	online func() bool
}

func (e *certified) start(ctx context.Context, down, up uplink.Dialer) {
	e.t.Helper()
	e.edge.start(ctx, down)
	reporter := newReporter(e.t, e.store, up)
	var err error
	e.keeper, err = certificates.New(certificates.Config{
		Store: e.store, Reporter: reporter, NodeName: node, Now: time.Now, Online: e.online, Shown: func(string) {},
		Answers: &edgedesired.Objects{Store: e.store, NotFound: volumes.ErrNotFound}, Log: logger(),
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.mu.Lock()
	e.wake = func(key string) { e.keeper.Wake(key) }
	e.mu.Unlock()
	ctx, e.cancel = context.WithCancel(ctx)
	for _, run := range []func(context.Context) error{reporter.Run, e.keeper.Run} {
		e.wg.Go(func() {
			if err := run(ctx); err != nil {
				e.t.Error(err)
			}
		})
	}
}

// halt ends the agent; without power, what was not synced is lost.
func (e *certified) halt() {
	e.cancel()
	e.wg.Wait()
	e.edge.halt()
}

func (e *certified) crash() {
	clone := e.fs.Crash(0, nil)
	e.halt()
	e.fs = clone
}

// runCertified has a cloud with one edge and a pod that wants a certificate. With absent
// the cluster does not serve such an API.
func runCertified(t *testing.T, absent bool, f func(ctx context.Context, a *api, down, up *link, e *certified, pod *corev1.Pod)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := newAPI(t)
		if absent {
			a.refuseBy(func(action clienttesting.Action) error {
				if action.GetResource().Resource == "podcertificaterequests" {
					return apierrors.NewNotFound(schema.GroupResource{}, "")
				}
				return nil
			})
		}
		own := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{cloudreport.LabelEdge: "true"}, Annotations: map[string]string{cloudreport.AnnotationOwner: "cloudproxy"}}}
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "me"}}
		a.stamp(&own.ObjectMeta)
		a.stamp(&account.ObjectMeta)
		if _, err := a.CoreV1().Nodes().Create(ctx, own, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.CoreV1().ServiceAccounts("default").Create(ctx, account, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		p, wg := publisher(ctx, t, a)
		r, err := cloudreport.New(cloudreport.Config{Client: a, Requests: p.CertificateRequests, Log: logger()})
		if err != nil {
			t.Fatal(err)
		}
		down, up := newLink(ctx, p.Serve), newLink(ctx, r.Serve)
		e := &certified{edge: newEdge(t), online: func() bool { up.mu.Lock(); defer up.mu.Unlock(); return !up.down }}
		e.start(ctx, down, up)
		pod := testPod("web")
		pod.Spec.ServiceAccountName = "me"
		pod.Spec.Volumes = []corev1.Volume{{Name: "id", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{PodCertificate: &corev1.PodCertificateProjection{
				SignerName: "example.com/ca", KeyType: "ED25519", MaxExpirationSeconds: new(int32(7200)), CredentialBundlePath: "b",
			}},
		}}}}}
		a.createPod(ctx, pod)
		wait(time.Second)
		f(ctx, a, down, up, e, pod)
		e.halt()
		cancel()
		down.cut()
		up.cut()
		wg.Wait()
		down.wg.Wait()
		up.wg.Wait()
	})
}

// requested gives the PodCertificateRequests in the API.
func (a *api) requested(ctx context.Context) []certificatesv1.PodCertificateRequest {
	a.t.Helper()
	list, err := a.CertificatesV1().PodCertificateRequests("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	return list.Items
}

// sign does what a signer does, for two hours, of which the first is before the renewal.
func (a *api) sign(ctx context.Context, req certificatesv1.PodCertificateRequest) {
	a.t.Helper()
	_, by, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(req.Spec.StubPKCS10Request)
	if err != nil {
		a.t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: now, NotAfter: now.Add(2 * time.Hour)},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, csr.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	a.stamp(&req.ObjectMeta)
	req.Status = certificatesv1.PodCertificateRequestStatus{
		Conditions:       []metav1.Condition{{Type: "Issued", Status: "True", Reason: "x"}},
		CertificateChain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		NotBefore:        new(metav1.NewTime(now)), BeginRefreshAt: new(metav1.NewTime(now.Add(time.Hour))), NotAfter: new(metav1.NewTime(now.Add(2 * time.Hour))),
	}
	if _, err := a.CertificatesV1().PodCertificateRequests("default").UpdateStatus(ctx, &req, metav1.UpdateOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

// clean does what the control plane does to requests of half an hour ago.
func (a *api) clean(ctx context.Context) {
	a.t.Helper()
	for _, req := range a.requested(ctx) {
		if err := a.CertificatesV1().PodCertificateRequests("default").Delete(ctx, req.Name, metav1.DeleteOptions{}); err != nil {
			a.t.Fatal(err)
		}
	}
}

func (e *certified) key(pod *corev1.Pod) []byte {
	e.t.Helper()
	key, _, err := e.keeper.Certificate(pod, "id", 0)
	if err != nil {
		e.t.Fatal(err)
	}
	return key
}

// TestPodCertificates: a pod's certificate is asked for, issued and renewed, over crashes
// and outages, and the key is in nothing that leaves the edge.
func TestPodCertificates(t *testing.T) {
	runCertified(t, false, func(ctx context.Context, a *api, down, up *link, e *certified, pod *corev1.Pod) {
		down.counts()
		if _, _, err := e.keeper.Certificate(pod, "id", 0); !errors.Is(err, volumes.ErrNotYet) {
			t.Fatalf("error %v", err)
		}
		wait(time.Second)
		requests := a.requested(ctx)
		if len(requests) != 1 {
			t.Fatalf("%d requests", len(requests))
		}
		first := requests[0]
		got := first.Spec
		got.StubPKCS10Request = nil
		want := certificatesv1.PodCertificateRequestSpec{
			SignerName: "example.com/ca", PodName: "web", PodUID: pod.UID, ServiceAccountName: "me", ServiceAccountUID: "uid-2",
			NodeName: node, NodeUID: "uid-1", MaxExpirationSeconds: new(int32(7200)),
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("request (-want +got):\n%s", d)
		}
		// The agent dies before anybody answers, and asks again; that is the same request.
		e.crash()
		e.start(ctx, down, up)
		wait(time.Second)
		if again := a.requested(ctx); len(again) != 1 || again[0].Name != first.Name {
			t.Fatalf("%d requests after a crash", len(again))
		}
		down.counts()
		a.sign(ctx, first)
		wait(time.Second)
		if d := cmp.Diff(map[string]int{"upsert podcertificaterequests/default/" + first.Name: 1}, down.counts()); d != "" {
			t.Errorf("an answer sends (-want +got):\n%s", d)
		}
		key := e.key(pod)
		// The answer goes, the certificate stays.
		a.clean(ctx)
		wait(time.Second)
		if d := cmp.Diff(map[string]int{"delete podcertificaterequests/default/" + first.Name: 1}, down.counts()); d != "" {
			t.Errorf("an answer that goes sends (-want +got):\n%s", d)
		}
		down.reconnect(t, time.Second)
		e.crash()
		e.start(ctx, down, up)
		if !bytes.Equal(e.key(pod), key) {
			t.Error("the key is another after a crash")
		}
		// It is time for another, and the link is cut when the signer answers, for so long
		// that the API forgets all.
		wait(time.Hour + 7*time.Minute)
		requests = a.requested(ctx)
		if len(requests) != 1 || requests[0].Name == first.Name {
			t.Fatalf("%d requests for a renewal", len(requests))
		}
		down.cut()
		up.cut()
		a.sign(ctx, requests[0])
		wait(40 * time.Minute)
		a.clean(ctx)
		wait(24 * time.Hour)
		if !bytes.Equal(e.key(pod), key) {
			t.Error("what was there has gone")
		}
		down.mend()
		up.mend()
		wait(2 * time.Minute)
		again := a.requested(ctx)
		if len(again) != 1 || again[0].Name != requests[0].Name {
			t.Fatalf("%d requests after the outage", len(again))
		}
		a.sign(ctx, again[0])
		wait(time.Second)
		if bytes.Equal(e.key(pod), key) {
			t.Error("not renewed")
		}
		for _, r := range append(again, first) {
			b, err := r.Marshal()
			if block, _ := pem.Decode(key); err != nil || bytes.Contains(b, block.Bytes[16:]) {
				t.Errorf("the API has a key: %v", err)
			}
		}
		if err := e.keeper.Forget(pod.UID); err != nil {
			t.Error(err)
		}
		if err := e.store.Private(func(name string, _ []byte) { t.Errorf("%s is left", name) }); err != nil {
			t.Error(err)
		}
	})
}

// TestPodCertificateDenied: what a signer refuses is told as an Event.
func TestPodCertificateDenied(t *testing.T) {
	runCertified(t, false, func(ctx context.Context, a *api, _, _ *link, e *certified, pod *corev1.Pod) {
		_, _, _ = e.keeper.Certificate(pod, "id", 0)
		wait(time.Second)
		req := a.requested(ctx)[0]
		a.stamp(&req.ObjectMeta)
		req.Status.Conditions = []metav1.Condition{{Type: "Denied", Status: "True", Reason: "UnsupportedKeyType", Message: "try RSA"}}
		if _, err := a.CertificatesV1().PodCertificateRequests("default").UpdateStatus(ctx, &req, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		if _, _, err := e.keeper.Certificate(pod, "id", 0); err == nil || !strings.Contains(err.Error(), `reason="UnsupportedKeyType" message="try RSA"`) {
			t.Errorf("error %v", err)
		}
		events, err := a.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil || len(events.Items) != 1 || events.Items[0].Reason != "Denied" || events.Items[0].InvolvedObject.UID != pod.UID {
			t.Errorf("%v, %v", events, err)
		}
	})
}

// TestPodCertificatesNotServed: a cluster without that API says so, and may come to have it.
func TestPodCertificatesNotServed(t *testing.T) {
	runCertified(t, true, func(ctx context.Context, a *api, _, _ *link, e *certified, pod *corev1.Pod) {
		_, _, err := e.keeper.Certificate(pod, "id", 0)
		if _, ok := errors.AsType[*volumes.UnsupportedError](err); !ok {
			t.Errorf("error %v", err)
		}
		e.mu.Lock()
		clear(e.woken)
		e.mu.Unlock()
		a.refuseBy(nil)
		wait(5*time.Minute + time.Second) // when the proxy looks again
		e.mu.Lock()
		woken := e.woken["nodes/"+node]
		e.mu.Unlock()
		if woken != 1 {
			t.Errorf("the edge was told %d times", woken)
		}
		if _, _, err := e.keeper.Certificate(pod, "id", 0); !errors.Is(err, volumes.ErrNotYet) {
			t.Fatalf("error %v", err)
		}
		wait(time.Second)
		requests := a.requested(ctx)
		if len(requests) != 1 {
			t.Fatalf("%d requests", len(requests))
		}
		a.sign(ctx, requests[0])
		wait(time.Second)
		e.key(pod)
	})
}
