package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// refreshJitter is how much later than the signer says a certificate is renewed at most,
// as by kubelets: those that were issued together are not asked for together.
const refreshJitter = 5 * time.Minute

// refusal is an answer that is no certificate.
type refusal struct {
	condition, reason, message string
}

func (r *refusal) err() error {
	how := "failed"
	if r.condition == certificatesv1.PodCertificateRequestConditionTypeDenied {
		how = "denied"
	}
	return fmt.Errorf("PodCertificateRequest was permanently %s: reason=%q message=%q", how, r.reason, r.message)
}

// event words a refusal as kubelets do.
func (r *refusal) event(request string) string {
	how := "failed"
	if r.condition == certificatesv1.PodCertificateRequestConditionTypeDenied {
		how = "was denied"
	}
	return fmt.Sprintf("PodCertificateRequest %s %s, reason=%q, message=%q", request, how, r.reason, r.message)
}

// judge gives what becomes of a record by an answer: a record with the certificate, or why
// there is none. It gives neither while the signer has not decided.
func judge(r record, answer *certificatesv1.PodCertificateRequest) (issued *record, refused *refusal) {
	for _, c := range answer.Status.Conditions {
		if c.Status != metav1.ConditionTrue {
			continue
		}
		switch c.Type {
		case certificatesv1.PodCertificateRequestConditionTypeDenied, certificatesv1.PodCertificateRequestConditionTypeFailed:
			return nil, &refusal{c.Type, c.Reason, c.Message}
		case certificatesv1.PodCertificateRequestConditionTypeIssued:
			if err := r.take(&answer.Status); err != nil {
				return nil, &refusal{certificatesv1.PodCertificateRequestConditionTypeFailed, "UnusableCertificate", err.Error()}
			}
			return &r, nil
		}
	}
	return nil, nil
}

// take makes what was issued for the next key the present. kube-apiserver has seen to most
// of this; what shows a pod a key and a certificate that do not go together looks itself.
func (r *record) take(s *certificatesv1.PodCertificateRequestStatus) error {
	chain, leaf, err := parseChain([]byte(s.CertificateChain))
	if err != nil {
		return err
	}
	if s.BeginRefreshAt == nil {
		return errors.New("it is not said when to renew it")
	}
	if !r.Next.certifies(leaf) {
		return errors.New("the certificate is for another key")
	}
	r.Key, r.Chain, r.NotAfter, r.Next = r.Next.Key, chain, leaf.NotAfter, nil
	r.RefreshAt = s.BeginRefreshAt.Add(rand.N(refreshJitter))
	return nil
}

// parseChain gives the certificates alone, without words between them and headers, and
// the first of them.
func parseChain(b []byte) (chain []byte, leaf *x509.Certificate, err error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if leaf == nil {
			if leaf, err = x509.ParseCertificate(block.Bytes); err != nil {
				return nil, nil, fmt.Errorf("parse the certificate: %w", err)
			}
		}
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})...)
	}
	if leaf == nil {
		return nil, nil, errors.New("there is no certificate in the chain")
	}
	return chain, leaf, nil
}
