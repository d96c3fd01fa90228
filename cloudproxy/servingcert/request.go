package servingcert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// commonName is any that begins as the signer wants it; it is no Node's.
	commonName = "system:node:skerry-cloudproxy"
	// approvedReason is the reason of our own approvals.
	approvedReason = "SkerryCloudProxy"
)

// errNotOurs is a request under our name that has another key or other names.
var errNotOurs = errors.New("certificate signing request is not for our key and names")

// requestName follows from the key, so that whoever has the key finds it.
func requestName(key *ecdsa.PrivateKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return "", fmt.Errorf("encode the serving key: %w", err)
	}
	sum := sha256.Sum256(der)
	return "skerry-kubelet-serving-" + hex.EncodeToString(sum[:8]), nil
}

// request gives the request for key, made if there is none.
func (k *Keeper) request(ctx context.Context, key *ecdsa.PrivateKey) (*certificatesv1.CertificateSigningRequest, error) {
	name, err := requestName(key)
	if err != nil {
		return nil, err
	}
	csrs := k.cfg.Client.CertificatesV1().CertificateSigningRequests()
	csr, err := csrs.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		hosts, ips := sansOf(k.cfg.Names)
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			Subject:  pkix.Name{CommonName: commonName, Organization: []string{"system:nodes"}},
			DNSNames: hosts, IPAddresses: ips,
		}, key)
		if err != nil {
			return nil, fmt.Errorf("make a certificate request: %w", err)
		}
		csr, err = csrs.Create(ctx, &certificatesv1.CertificateSigningRequest{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/part-of": "skerry"}},
			Spec: certificatesv1.CertificateSigningRequestSpec{
				Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
				SignerName: certificatesv1.KubeletServingSignerName,
				// Key encipherment is RSA's; signers before 1.27 want it of all.
				Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageServerAuth},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			return nil, fmt.Errorf("create certificate signing request %s: %w", name, err)
		}
		k.log.Info("serving certificate requested", "request", name, "names", k.cfg.Names)
		return csr, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get certificate signing request %s: %w", name, err)
	}
	return csr, k.checkRequest(csr, key)
}

// checkRequest keeps us from approving what somebody else put under our name.
func (k *Keeper) checkRequest(csr *certificatesv1.CertificateSigningRequest, key *ecdsa.PrivateKey) error {
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil {
		return fmt.Errorf("%s: %w", csr.Name, errNotOurs)
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	hosts, ips := sansOf(k.cfg.Names)
	if err != nil || !key.PublicKey.Equal(req.PublicKey) || csr.Spec.SignerName != certificatesv1.KubeletServingSignerName ||
		!sameNames(req.DNSNames, req.IPAddresses, hosts, ips) || len(req.URIs) > 0 || len(req.EmailAddresses) > 0 {
		return fmt.Errorf("%s: %w", csr.Name, errNotOurs)
	}
	return nil
}

// decided gives a request's condition of a type.
func decided(csr *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	for i := range csr.Status.Conditions {
		if c := &csr.Status.Conditions[i]; c.Type == t {
			return c
		}
	}
	return nil
}

// approve approves our own request, if we may.
func (k *Keeper) approve(ctx context.Context, csr *certificatesv1.CertificateSigningRequest) (*certificatesv1.CertificateSigningRequest, error) {
	csr = csr.DeepCopy()
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: approvedReason,
		Message: "the cloud proxy's serving certificate for the Nodes of edges", LastUpdateTime: metav1.Now(),
	})
	approved, err := k.cfg.Client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("approve certificate signing request %s: %w", csr.Name, err)
	}
	return approved, nil
}

// issued checks what the signer gave.
func (k *Keeper) issued(csr *certificatesv1.CertificateSigningRequest, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	pair, err := k.pair(csr.Status.Certificate, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", csr.Name, err)
	}
	return pair, nil
}

// pair parses a certificate and its key, and checks that it is one to serve with.
func (k *Keeper) pair(certPEM, keyPEM []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("read the serving certificate: %w", err)
	}
	if !validAt(pair.Leaf, time.Now()) {
		return nil, fmt.Errorf("it is valid from %v to %v", pair.Leaf.NotBefore, pair.Leaf.NotAfter)
	}
	for _, name := range k.cfg.Names {
		if err := pair.Leaf.VerifyHostname(name); err != nil {
			return nil, fmt.Errorf("it is not for a name of the Nodes: %w", err)
		}
	}
	return &pair, nil
}

func validAt(leaf *x509.Certificate, now time.Time) bool {
	return !now.Before(leaf.NotBefore) && now.Before(leaf.NotAfter)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the serving key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// decodeKey gives nil for what is no key of ours.
func decodeKey(b []byte) *ecdsa.PrivateKey {
	block, _ := pem.Decode(bytes.TrimSpace(b))
	if block == nil {
		return nil
	}
	var key crypto.PrivateKey
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil
	}
	return ec
}
