package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// signer signs certificates for pods, in the way in which one would in a cluster.
type signer struct {
	t    *testing.T
	name string
	key  *ecdsa.PrivateKey
	ca   *x509.Certificate

	mu   sync.Mutex // guards the following field
	seen map[string]certificatesv1.PodCertificateRequestSpec
}

// newSigner runs a signer until the test ends. It denies RSA keys.
func newSigner(t *testing.T, name string) *signer {
	t.Helper()
	s := &signer{t: t, name: name, seen: map[string]certificatesv1.PodCertificateRequestSpec{}}
	var err error
	s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key)
	must(t, err)
	s.ca, err = x509.ParseCertificate(der)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// run answers what is asked, once a second.
func (s *signer) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		out, err := theLab.Kubectl(ctx, "get", "podcertificaterequests", "-A", "-o", "json")
		var list certificatesv1.PodCertificateRequestList
		if err == nil {
			err = json.Unmarshal([]byte(out), &list)
		}
		for i := range list.Items {
			if req := &list.Items[i]; req.Spec.SignerName == s.name && len(req.Status.Conditions) == 0 {
				err = errors.Join(err, s.answer(ctx, req))
			}
		}
		if err != nil && ctx.Err() == nil {
			s.t.Logf("signer %s: %v", s.name, err)
		}
	}
}

func (s *signer) answer(ctx context.Context, req *certificatesv1.PodCertificateRequest) error {
	csr, err := x509.ParseCertificateRequest(req.Spec.StubPKCS10Request)
	if err != nil {
		return err
	}
	condition := metav1.Condition{Status: metav1.ConditionTrue, LastTransitionTime: metav1.Now()}
	var status certificatesv1.PodCertificateRequestStatus
	if csr.PublicKeyAlgorithm == x509.RSA {
		condition.Type, condition.Reason, condition.Message = "Denied", "UnsupportedKeyType", "try ECDSAP256"
	} else {
		condition.Type, condition.Reason = "Issued", "Issued"
		now := time.Now().Truncate(time.Second)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now, NotAfter: now.Add(time.Duration(*req.Spec.MaxExpirationSeconds) * time.Second),
			URIs:     []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/" + req.Namespace + "/sa/" + req.Spec.ServiceAccountName}},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, s.ca, csr.PublicKey, s.key)
		if err != nil {
			return err
		}
		status = certificatesv1.PodCertificateRequestStatus{
			CertificateChain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
			NotBefore:        new(metav1.NewTime(template.NotBefore)), NotAfter: new(metav1.NewTime(template.NotAfter)),
			BeginRefreshAt: new(metav1.NewTime(template.NotAfter.Add(-10 * time.Minute))),
		}
	}
	status.Conditions = []metav1.Condition{condition}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = theLab.Kubectl(ctx, "-n", req.Namespace, "patch", "podcertificaterequest", req.Name, "--subresource=status", "--type=merge", "-p", string(patch))
	if err == nil {
		s.mu.Lock()
		s.seen[req.Spec.PodName] = req.Spec
		s.mu.Unlock()
	}
	return err
}

// holds gives the identity that a pod can prove by what its files say.
func (s *signer) holds(bundle string) (string, error) {
	pair, err := tls.X509KeyPair([]byte(bundle), []byte(bundle))
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.ca)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return "", err
	}
	return pair.Leaf.URIs[0].String(), nil
}

// TestPodCertificate: a pod proves by a certificate who it is; its key outlives the agent,
// also without a cloud, and goes with the pod. One that a signer denies never runs.
func TestPodCertificate(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	s := newSigner(t, "example.com/"+ns)
	newPodWith := func(name, keyType string) *corev1.Pod {
		pod := newPod(ns, name, e, shell("main", idle))
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "id", MountPath: "/id"}}
		pod.Spec.Volumes = []corev1.Volume{{Name: "id", VolumeSource: corev1.VolumeSource{Projected: projection(t, fmt.Sprintf(
			`[{"podCertificate": {"signerName": %q, "keyType": %q, "maxExpirationSeconds": 3600, "credentialBundlePath": "bundle.pem",
"keyPath": "key.pem", "certificateChainPath": "chain.pem", "userAnnotations": {"example.com/a": "b"}}}]`, s.name, keyType))}}}
		return pod
	}
	read := func(file string) string {
		t.Helper()
		return kubectl(t, "-n", ns, "exec", "proven", "--", "cat", "/id/"+file)
	}
	pod := runPod(t, newPodWith("proven", "ECDSAP256"))
	bundle := read("bundle.pem")
	who, err := s.holds(bundle)
	if want := "spiffe://cluster.local/ns/" + ns + "/sa/default"; err != nil || who != want {
		t.Errorf("the pod is %q, %v, want %s", who, err, want)
	}
	if bundle != read("key.pem")+read("chain.pem") || !strings.HasPrefix(bundle, "-----BEGIN PRIVATE KEY-----") {
		t.Error("the files do not go together")
	}
	s.mu.Lock()
	asked := s.seen["proven"]
	s.mu.Unlock()
	node := kubectl(t, "get", "node", e.Name, "-o", "jsonpath={.metadata.uid}")
	account := kubectl(t, "-n", ns, "get", "serviceaccount", "default", "-o", "jsonpath={.metadata.uid}")
	if asked.PodUID != pod.UID || string(asked.NodeName) != e.Name || string(asked.NodeUID) != node || string(asked.ServiceAccountUID) != account ||
		asked.UnverifiedUserAnnotations["example.com/a"] != "b" {
		t.Errorf("asked for %+v", asked)
	}

	// Denied: told, and nothing runs.
	create(t, newPodWith("denied", "RSA3072"))
	eventually(t, "events about the denied pod", func() error {
		out := kubectl(t, "-n", ns, "get", "events", "--field-selector", "involvedObject.name=denied", "-o", `jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}`)
		for _, want := range []string{
			`was denied, reason="UnsupportedKeyType", message="try ECDSAP256"`,
			`FailedMount: MountVolume.SetUp failed for volume "id" : PodCertificateRequest was permanently denied`,
		} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("events lack %s:\n%s", want, out)
			}
		}
		return nil
	})
	if denied, err := getPod(t, ns, "denied"); err != nil || denied.Status.Phase != corev1.PodPending {
		t.Errorf("the denied pod: %v, %v", denied.Status.Phase, err)
	}

	// The request goes and the agent dies; the certificate stays, and is not asked for again.
	// For the denied one the new agent asks once more.
	kubectl(t, "-n", ns, "delete", "podcertificaterequests", "--all")
	must(t, e.KillAgent(t.Context()))
	must(t, e.StartAgent(t.Context()))
	must(t, e.WaitReady(t.Context(), patience))
	eventually(t, "request for the denied pod", func() error {
		if out := kubectl(t, "-n", ns, "get", "podcertificaterequests", "-o", "jsonpath={.items[*].spec.podName}"); out != "denied" {
			return fmt.Errorf("there are requests for %q", out)
		}
		return nil
	})
	if read("bundle.pem") != bundle {
		t.Error("the certificate is another after a restart")
	}
	sameContainers(t, pod)
	kubectl(t, "-n", ns, "delete", "pod", "proven", "denied")
}
