package certificates

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// world is all around a Keeper: a disk, a cloud and a signer.
type world struct {
	t  testing.TB
	ca *x509.Certificate
	by crypto.Signer

	mu      sync.Mutex // guards the following fields
	disk    map[string][]byte
	full    bool
	unknown bool // nobody knows whether the cluster takes requests
	takes   bool
	offline bool
	asked   []*certificatesv1.PodCertificateRequest
	answers map[string]*certificatesv1.PodCertificateRequest
	events  []string
	shown   []string
	saving  func() // before each time that the disk takes something
	deleted func() // after the disk has deleted
	broken  bool   // it deletes nothing
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	_, by, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{t: tb, by: by, takes: true, disk: map[string][]byte{}, answers: map[string]*certificatesv1.PodCertificateRequest{}}
	w.ca = &x509.Certificate{SerialNumber: big.NewInt(1)}
	return w
}

func (w *world) Private(fn func(string, []byte)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, value := range w.disk {
		fn(name, value)
	}
	return nil
}

var errFull = errors.New("disk is full")

func (w *world) SetPrivate(name string, value []byte) error {
	if w.saving != nil {
		w.saving()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full {
		return errFull
	}
	w.disk[name] = value
	return nil
}

func (w *world) DeletePrivate(names ...string) error {
	if w.deleted != nil {
		defer w.deleted()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return errFull
	}
	for _, name := range names {
		delete(w.disk, name)
	}
	return nil
}

func (w *world) PodCertificateRequest(namespace, name string) (*certificatesv1.PodCertificateRequest, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.answers[namespace+"/"+name]; a != nil {
		return a, nil
	}
	return nil, volumes.ErrNotFound
}

func (w *world) TakesCertificateRequests(node string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unknown || node != "edge-1" {
		return false, volumes.ErrNotFound
	}
	return w.takes, nil
}

func (w *world) CertificateRequest(_ string, _ int, req *certificatesv1.PodCertificateRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, req)
}

func (w *world) PodEvent(namespace, name string, uid types.UID, _, kind, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%s/%s %s %s %s: %s", namespace, name, uid, kind, reason, message))
}

func (w *world) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}

// requests gives the last request, and how many there were since the last call.
func (w *world) requests() (last *certificatesv1.PodCertificateRequest, count int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if count = len(w.asked); count > 0 {
		last = w.asked[count-1]
	}
	w.asked = nil
	return last, count
}

// keeper starts a Keeper that stop ends.
func (w *world) keeper() (k *Keeper, stop func()) {
	w.t.Helper()
	k, err := New(Config{
		Store: w, Answers: w, Reporter: w, NodeName: "edge-1", Now: time.Now,
		Online: func() bool { w.mu.Lock(); defer w.mu.Unlock(); return !w.offline },
		Shown:  func(key string) { w.mu.Lock(); defer w.mu.Unlock(); w.shown = append(w.shown, key) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	return k, func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

// answer puts a status under a request and wakes the Keeper, as the stream does.
func (w *world) answer(k *Keeper, req *certificatesv1.PodCertificateRequest, s certificatesv1.PodCertificateRequestStatus) {
	w.t.Helper()
	a := req.DeepCopy()
	a.Name, a.Status = wire.CertificateRequestName(req.Spec.StubPKCS10Request), s
	w.mu.Lock()
	w.answers[a.Namespace+"/"+a.Name] = a
	w.mu.Unlock()
	if !k.Wake(wire.ObjectKey(wire.ResourceCertificates, a.Namespace, a.Name)) {
		w.t.Error("an answer is not the Keeper's")
	}
	synctest.Wait()
}

// issue signs what is asked for some time from now, of which half is before the renewal.
func (w *world) issue(public any, life time.Duration) certificatesv1.PodCertificateRequestStatus {
	w.t.Helper()
	now := time.Now().Truncate(time.Second)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: now, NotAfter: now.Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca, public, w.by)
	if err != nil {
		w.t.Fatal(err)
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: der})
	return certificatesv1.PodCertificateRequestStatus{
		Conditions:       []metav1.Condition{{Type: "Issued", Status: "True", Reason: "x"}},
		CertificateChain: "words\n" + string(leaf) + "more words\n" + string(leaf),
		NotBefore:        new(metav1.NewTime(now)), NotAfter: new(metav1.NewTime(now.Add(life))), BeginRefreshAt: new(metav1.NewTime(now.Add(life / 2))),
	}
}

func (w *world) sign(k *Keeper, req *certificatesv1.PodCertificateRequest, life time.Duration) {
	w.t.Helper()
	csr, err := x509.ParseCertificateRequest(req.Spec.StubPKCS10Request)
	if err != nil {
		w.t.Fatal(err)
	}
	w.answer(k, req, w.issue(csr.PublicKey, life))
}

func certified(keyType string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u1"},
		Spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "id", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{DownwardAPI: &corev1.DownwardAPIProjection{}},
			{PodCertificate: &corev1.PodCertificateProjection{
				SignerName: "example.com/ca", KeyType: keyType, MaxExpirationSeconds: new(int32(7200)),
				UserAnnotations: map[string]string{"example.com/a": "b"}, CredentialBundlePath: "bundle.pem",
			}},
		}}}}}},
	}
}

// see checks what the volume would show, and gives it.
func (w *world) see(k *Keeper, pod *corev1.Pod) (key, chain []byte) {
	w.t.Helper()
	key, chain, err := k.Certificate(pod, "id", 1)
	if err != nil {
		w.t.Fatal(err)
	}
	block, rest := pem.Decode(key)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) != 0 {
		w.t.Fatalf("key is %q", key)
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		w.t.Fatal(err)
	}
	signer, _ := private.(crypto.Signer)
	_, leaf, err := parseChain(chain)
	if err != nil {
		w.t.Fatal(err)
	}
	if public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(leaf.PublicKey) {
		w.t.Error("key and certificate do not go together")
	}
	if bytes.Contains(chain, []byte("words")) || bytes.Contains(chain, []byte("a: b")) || bytes.Count(chain, []byte("BEGIN CERTIFICATE")) != 2 {
		w.t.Errorf("chain is %s", chain)
	}
	return key, chain
}

func wantNotYet(t *testing.T, k *Keeper, pod *corev1.Pod) {
	t.Helper()
	if _, _, err := k.Certificate(pod, "id", 1); !errors.Is(err, volumes.ErrNotYet) {
		t.Errorf("error %v, want one of what is on its way", err)
	}
}

// TestLife is that of a certificate: asked for, issued, renewed at its time, kept over a
// restart, and forgotten with its pod.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k, stop := w.keeper()
		pod := certified("ED25519")
		wantNotYet(t, k, pod)
		wantNotYet(t, k, pod)
		synctest.Wait()
		req, n := w.requests()
		if n != 1 {
			t.Fatalf("asked %d times", n)
		}
		want := certificatesv1.PodCertificateRequestSpec{
			PodName: "web", PodUID: "u1", SignerName: "example.com/ca", MaxExpirationSeconds: new(int32(7200)),
			UnverifiedUserAnnotations: map[string]string{"example.com/a": "b"}, StubPKCS10Request: req.Spec.StubPKCS10Request,
		}
		if d := cmp.Diff(want, req.Spec); d != "" || req.Namespace != "ns" {
			t.Errorf("asked (-want +got):\n%s", d)
		}
		w.answer(k, req, certificatesv1.PodCertificateRequestStatus{}) // nobody has decided
		wantNotYet(t, k, pod)
		const life = 2 * time.Hour
		issued := time.Now()
		w.sign(k, req, life)
		first, _ := w.see(k, pod)
		if got, want := w.shown[len(w.shown)-1], "podcertificaterequests/ns/"+wire.CertificateRequestName(req.Spec.StubPKCS10Request); got != want {
			t.Errorf("%s was shown, want %s", got, want)
		}

		// It is renewed when the signer says, at most five minutes later and a minute for
		// the look at the clock.
		for n = 0; n == 0; {
			<-time.After(time.Second)
			synctest.Wait()
			req, n = w.requests()
		}
		if age := time.Since(issued); age < life/2 || age > life/2+refreshJitter+lookEvery+time.Second {
			t.Errorf("renewed at the age of %v, want %v", age, life/2)
		}
		if again, _ := w.see(k, pod); !bytes.Equal(again, first) {
			t.Error("the key went before the next was certified")
		}
		stop()

		// What is asked and what there is, both outlive the agent.
		k, stop = w.keeper()
		synctest.Wait()
		if again, n := w.requests(); n != 1 || !cmp.Equal(again, req) {
			t.Errorf("asked %d times after a restart, %v, want once the same", n, again)
		}
		if again, _ := w.see(k, pod); !bytes.Equal(again, first) {
			t.Error("the key is another after a restart")
		}
		w.sign(k, req, life)
		second, _ := w.see(k, pod)
		if bytes.Equal(second, first) {
			t.Error("renewed with the same key")
		}
		if got := w.told(); len(got) != 0 {
			t.Errorf("events %q", got)
		}
		if err := k.Forget("other"); err != nil || len(w.disk) != 1 {
			t.Errorf("%v, on the disk: %d", err, len(w.disk))
		}
		if err := k.Forget(pod.UID); err != nil || len(w.disk) != 0 {
			t.Errorf("%v, on the disk: %v", err, w.disk)
		}
		stop()
	})
}

// TestOffline: days without a cloud leave what is there, tell that once, and wear no disk.
func TestOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k, stop := w.keeper()
		pod := certified("ECDSAP256")
		wantNotYet(t, k, pod)
		synctest.Wait()
		req, _ := w.requests()
		w.sign(k, req, 2*time.Hour)
		first, _ := w.see(k, pod)
		w.mu.Lock()
		w.offline = true
		w.mu.Unlock()
		<-time.After(3 * 24 * time.Hour)
		synctest.Wait()
		req, n := w.requests()
		if n != 1 {
			t.Errorf("asked %d times", n)
		}
		if again, _ := w.see(k, pod); !bytes.Equal(again, first) {
			t.Error("the key has gone")
		}
		want := []string{
			"ns/web u1 Warning CertificateOverdueForRefresh: PodCertificate refresh overdue",
			"ns/web u1 Warning CertificateExpired: PodCertificate expired",
		}
		if d := cmp.Diff(want, w.told()); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
		w.mu.Lock()
		w.offline = false
		w.mu.Unlock()
		<-time.After(lookEvery)
		synctest.Wait()
		// The API forgets what it was asked after half an hour.
		if again, n := w.requests(); n != 1 || !cmp.Equal(req, again) {
			t.Errorf("asked %d times after the return, want once the same", n)
		}
		for range 12 {
			<-time.After(askAgain)
		}
		synctest.Wait()
		if _, n := w.requests(); n < 7 || n > 12 {
			t.Errorf("asked %d times in two hours", n)
		}
		w.sign(k, req, 2*time.Hour)
		if second, _ := w.see(k, pod); bytes.Equal(first, second) {
			t.Error("not renewed")
		}
		stop()
	})
}

// TestRefused: what a signer refuses is told and not asked for again, until the next agent;
// what was there before stays.
func TestRefused(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(condition string) func(*world) certificatesv1.PodCertificateRequestStatus {
		return func(*world) certificatesv1.PodCertificateRequestStatus {
			return certificatesv1.PodCertificateRequestStatus{Conditions: []metav1.Condition{{Type: condition, Status: "True", Reason: "R", Message: "m"}}}
		}
	}
	for _, tt := range []struct {
		name              string
		status            func(*world) certificatesv1.PodCertificateRequestStatus
		err, event, words string
	}{
		{"denied", refuse("Denied"), "denied", "Denied", `was denied, reason="R", message="m"`},
		{"failed", refuse("Failed"), "failed", "Failed", `failed, reason="R", message="m"`},
		{"another key", func(w *world) certificatesv1.PodCertificateRequestStatus {
			return w.issue(other.Public(), time.Hour)
		}, "failed", "Failed", `failed, reason="UnusableCertificate", message="the certificate is for another key"`},
		{"no chain", func(w *world) certificatesv1.PodCertificateRequestStatus {
			s := w.issue(other.Public(), time.Hour)
			s.CertificateChain = "none"
			return s
		}, "failed", "Failed", `failed, reason="UnusableCertificate", message="there is no certificate in the chain"`},
		{"no time", func(w *world) certificatesv1.PodCertificateRequestStatus {
			s := w.issue(other.Public(), time.Hour)
			s.BeginRefreshAt = nil
			return s
		}, "failed", "Failed", `failed, reason="UnusableCertificate", message="it is not said when to renew it"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				k, stop := w.keeper()
				pod := certified("ED25519")
				wantNotYet(t, k, pod)
				synctest.Wait()
				req, _ := w.requests()
				w.answer(k, req, tt.status(w))
				_, _, err := k.Certificate(pod, "id", 1)
				if want := "PodCertificateRequest was permanently " + tt.err; err == nil || !strings.HasPrefix(err.Error(), want) || errors.Is(err, volumes.ErrNotYet) {
					t.Errorf("error %v, want %s", err, want)
				}
				want := fmt.Sprintf("ns/web u1 Warning %s: PodCertificateRequest ns/%s %s", tt.event, wire.CertificateRequestName(req.Spec.StubPKCS10Request), tt.words)
				if d := cmp.Diff([]string{want}, w.told()); d != "" {
					t.Errorf("events (-want +got):\n%s", d)
				}
				<-time.After(24 * time.Hour)
				synctest.Wait()
				if _, n := w.requests(); n != 0 || len(w.disk) != 0 {
					t.Errorf("asked %d times again, on the disk %d", n, len(w.disk))
				}
				stop()
				k, stop = w.keeper()
				wantNotYet(t, k, pod)
				synctest.Wait()
				req, n := w.requests()
				if n != 1 {
					t.Fatalf("the next agent asked %d times", n)
				}
				w.sign(k, req, 2*time.Hour)
				first, _ := w.see(k, pod)
				<-time.After(time.Hour + refreshJitter + lookEvery)
				synctest.Wait()
				if req, n = w.requests(); n != 1 {
					t.Fatalf("asked %d times for a renewal", n)
				}
				w.answer(k, req, tt.status(w))
				<-time.After(24 * time.Hour)
				synctest.Wait()
				if _, n := w.requests(); n != 0 {
					t.Errorf("asked %d times again for a renewal", n)
				}
				if again, _ := w.see(k, pod); !bytes.Equal(again, first) {
					t.Error("what was there has gone")
				}
				stop()
				k, stop = w.keeper()
				synctest.Wait()
				if _, n := w.requests(); n != 1 {
					t.Errorf("the agent after that asked %d times", n)
				}
				if again, _ := w.see(k, pod); !bytes.Equal(again, first) {
					t.Error("what was there has gone with the agent")
				}
				stop()
			})
		})
	}
}

// TestUnsupported: a cluster without such an API has no key made, and it may come.
func TestUnsupported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.unknown = true
		k, stop := w.keeper()
		pod := certified("ED25519")
		wantNotYet(t, k, pod)
		w.unknown, w.takes = false, false
		_, _, err := k.Certificate(pod, "id", 1)
		if !isUnsupported(err) {
			t.Errorf("error %v", err)
		}
		synctest.Wait()
		if _, n := w.requests(); n != 0 || len(w.disk) != 0 {
			t.Errorf("asked %d times, %d on the disk", n, len(w.disk))
		}
		w.takes = true
		wantNotYet(t, k, pod)
		synctest.Wait()
		req, _ := w.requests()
		w.sign(k, req, time.Hour)
		w.takes = false // what there is stays
		w.see(k, pod)
		if _, _, err := k.Certificate(pod, "id", 0); err == nil {
			t.Error("a source that is no certificate has one")
		}
		if _, _, err := k.Certificate(certified("DSA"), "id", 2); err == nil {
			t.Error("a source that is not there has one")
		}
		if err := k.Forget(pod.UID); err != nil {
			t.Error(err)
		}
		w.takes = true
		if _, _, err := k.Certificate(certified("DSA"), "id", 1); err == nil || errors.Is(err, volumes.ErrNotYet) {
			t.Errorf("a key of unknown type: %v", err)
		}
		stop()
	})
}

// TestTakesNoMore: when a cluster takes no more requests, pods that wait are told, nothing is
// asked, and what there is stays; all goes on when it takes them again.
func TestTakesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k, stop := w.keeper()
		pod := certified("ED25519")
		takes := func(takes bool) { w.mu.Lock(); w.takes = takes; w.mu.Unlock() }
		wantNotYet(t, k, pod)
		takes(false)
		if _, _, err := k.Certificate(pod, "id", 1); !isUnsupported(err) {
			t.Errorf("error %v", err)
		}
		synctest.Wait()
		w.requests()
		quiet := func() {
			t.Helper()
			<-time.After(24 * time.Hour)
			synctest.Wait()
			if _, n := w.requests(); n != 0 {
				t.Errorf("asked %d times", n)
			}
		}
		quiet()
		takes(true)
		wantNotYet(t, k, pod)
		<-time.After(lookEvery)
		synctest.Wait()
		req, n := w.requests()
		if n != 1 {
			t.Fatalf("asked %d times", n)
		}
		w.sign(k, req, 2*time.Hour)
		first, _ := w.see(k, pod)

		takes(false)
		quiet()
		if again, _ := w.see(k, pod); !bytes.Equal(again, first) {
			t.Error("the key has gone")
		}
		if n := len(w.told()); n != 2 {
			t.Errorf("%d events, want that it is overdue and that it has expired", n)
		}
		takes(true)
		<-time.After(lookEvery)
		synctest.Wait()
		if req, n = w.requests(); n != 1 {
			t.Fatalf("asked %d times for the renewal", n)
		}
		w.sign(k, req, 2*time.Hour)
		if again, _ := w.see(k, pod); bytes.Equal(again, first) {
			t.Error("not renewed")
		}
		stop()
	})
}

func isUnsupported(err error) bool {
	u, ok := errors.AsType[*volumes.UnsupportedError](err)
	return ok && u.Volume == "id" && u.Source == "podCertificate"
}

// TestForgotten: of a pod that is gone no key stays, when it was forgotten while a
// certificate was being taken, nor when the store could not delete.
func TestForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k, stop := w.keeper()
		pod := certified("ED25519")
		wantNotYet(t, k, pod)
		synctest.Wait()
		req, _ := w.requests()
		forget := func() {
			if err := k.Forget(pod.UID); err != nil {
				t.Error(err)
			}
		}
		nothing := func(when string) {
			t.Helper()
			if len(w.disk) != 0 || len(k.Pods()) != 0 {
				t.Errorf("%s: on the disk %d, pods %v", when, len(w.disk), k.Pods())
			}
		}
		w.saving = forget // and then it is saved
		w.sign(k, req, 2*time.Hour)
		w.saving = nil
		nothing("forgotten while it is saved")

		wantNotYet(t, k, pod)
		synctest.Wait()
		req, _ = w.requests()
		w.deleted = func() {
			w.deleted = nil
			w.sign(k, req, 2*time.Hour)
		}
		forget()
		nothing("saved while it is forgotten")

		wantNotYet(t, k, pod)
		synctest.Wait()
		w.broken = true
		if err := k.Forget(pod.UID); !errors.Is(err, errFull) {
			t.Errorf("error %v", err)
		}
		if d := cmp.Diff([]types.UID{pod.UID}, k.Pods()); d != "" {
			t.Errorf("pods (-want +got):\n%s", d)
		}
		w.broken = false
		forget()
		nothing("forgotten at the second time")
		w.requests()
		<-time.After(24 * time.Hour)
		if _, n := w.requests(); n != 0 {
			t.Errorf("asked %d times for a pod that is gone", n)
		}

		// What another agent has left is told, so that it can be forgotten.
		wantNotYet(t, k, pod)
		stop()
		k, stop = w.keeper()
		if d := cmp.Diff([]types.UID{pod.UID}, k.Pods()); d != "" {
			t.Errorf("pods of the next agent (-want +got):\n%s", d)
		}
		forget()
		nothing("forgotten by the next agent")
		stop()
	})
}

// TestFullDisk: nothing is shown or asked that is not kept, and all comes when there is room.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k, stop := w.keeper()
		pod := certified("ED25519")
		fill := func(full bool) { w.mu.Lock(); w.full = full; w.mu.Unlock() }
		fill(true)
		if _, _, err := k.Certificate(pod, "id", 1); !errors.Is(err, errFull) {
			t.Errorf("error %v", err)
		}
		synctest.Wait()
		if _, n := w.requests(); n != 0 {
			t.Errorf("asked %d times with a key that is not kept", n)
		}
		fill(false)
		wantNotYet(t, k, pod)
		synctest.Wait()
		req, _ := w.requests()
		fill(true)
		w.sign(k, req, 2*time.Hour)
		wantNotYet(t, k, pod)
		fill(false)
		<-time.After(lookEvery)
		synctest.Wait()
		first, _ := w.see(k, pod)
		fill(true)
		<-time.After(time.Hour + refreshJitter + lookEvery)
		synctest.Wait()
		if _, n := w.requests(); n != 0 {
			t.Errorf("asked %d times for a renewal with a key that is not kept", n)
		}
		fill(false)
		<-time.After(askAgain + lookEvery)
		synctest.Wait()
		req, n := w.requests()
		if n != 1 {
			t.Fatalf("asked %d times for a renewal", n)
		}
		w.sign(k, req, time.Hour)
		if again, _ := w.see(k, pod); bytes.Equal(again, first) {
			t.Error("not renewed")
		}
		stop()
	})
}

// TestDamaged: what is not what it should be counts as lost, and is nobody else's.
func TestDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.disk = map[string][]byte{
			"podcertificates/u1/id/1": []byte("{"), "podcertificates/u2/id/1": []byte(`{"uid":"u1","volume":"id","source":1,"chain":"eA==","key":"eA=="}`),
			"somebody/else": []byte("x"),
		}
		before := maps.Clone(w.disk)
		k, stop := w.keeper()
		wantNotYet(t, k, certified("ED25519"))
		synctest.Wait()
		if _, n := w.requests(); n != 1 || string(w.disk["somebody/else"]) != "x" || bytes.Equal(w.disk["podcertificates/u1/id/1"], before["podcertificates/u1/id/1"]) {
			t.Errorf("asked %d times, disk %q", n, w.disk)
		}
		if k.Wake("pods/ns/web") || k.Wake("secrets/ns/x") {
			t.Error("takes keys of others")
		}
		stop()
	})
}

// TestKeyTypes are all that the API knows.
func TestKeyTypes(t *testing.T) {
	for keyType, check := range map[string]func(any) bool{
		"ED25519":   func(k any) bool { _, ok := k.(ed25519.PublicKey); return ok },
		"ECDSAP256": func(k any) bool { p, ok := k.(*ecdsa.PublicKey); return ok && p.Curve == elliptic.P256() },
		"ECDSAP384": func(k any) bool { p, ok := k.(*ecdsa.PublicKey); return ok && p.Curve == elliptic.P384() },
		"ECDSAP521": func(k any) bool { p, ok := k.(*ecdsa.PublicKey); return ok && p.Curve == elliptic.P521() },
		"RSA3072":   func(k any) bool { p, ok := k.(*rsa.PublicKey); return ok && p.N.BitLen() == 3072 },
		"RSA4096":   func(k any) bool { p, ok := k.(*rsa.PublicKey); return ok && p.N.BitLen() == 4096 },
	} {
		t.Run(keyType, func(t *testing.T) {
			r, err := newRequest(keyType)
			if err != nil {
				t.Fatal(err)
			}
			csr, err := x509.ParseCertificateRequest(r.DER)
			if err != nil || csr.CheckSignature() != nil || csr.Subject.String() != "" {
				t.Fatalf("%v, %v", err, csr)
			}
			if !check(csr.PublicKey) {
				t.Errorf("key is a %T", csr.PublicKey)
			}
		})
	}
}

// FuzzAnswer: whatever a signer says, a Keeper that starts again reads what it kept.
func FuzzAnswer(f *testing.F) {
	w := newWorld(f)
	req, err := newRequest("ED25519")
	if err != nil {
		f.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(req.DER)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("Issued", []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), true)
	f.Add("Issued", []byte(w.issue(csr.PublicKey, time.Hour).CertificateChain), true)
	f.Add("Denied", []byte("x"), false)
	f.Fuzz(func(t *testing.T, condition string, chain []byte, timed bool) {
		a := &certificatesv1.PodCertificateRequest{}
		a.Status.Conditions = []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue}}
		a.Status.CertificateChain = string(chain)
		if timed {
			a.Status.BeginRefreshAt = new(metav1.Now())
		}
		issued, refused := judge(record{UID: "u", Volume: "v", Next: req}, a)
		if issued != nil && refused != nil {
			t.Fatal("issued and refused")
		}
		if issued == nil {
			return
		}
		b, err := issued.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unmarshal(issued.name(), b); err != nil {
			t.Fatal(err)
		}
	})
}
