package enroll

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/certs/issuer"
)

const caSecretName = "skerry-ca"

// loadOrCreateCA is free of races between replicas: whoever's create comes second
// reads what the first one wrote. A Secret that is there but can't be read is an
// error and never overwritten, because every edge out there trusts the old key.
func (s *Service) loadOrCreateCA(ctx context.Context, cluster string) (*issuer.CA, error) {
	secrets := s.cfg.Client.CoreV1().Secrets(s.cfg.Namespace)
	secret, err := secrets.Get(ctx, caSecretName, metav1.GetOptions{})
	if err == nil {
		return s.parseCA(secret)
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	ca, err := issuer.NewCA(cluster)
	if err != nil {
		return nil, err
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return nil, err
	}
	_, err = secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.cfg.Namespace, Name: caSecretName, Labels: ownLabels()},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: ca.CertPEM(), corev1.TLSPrivateKeyKey: key},
	}, metav1.CreateOptions{})
	switch {
	case err == nil:
		s.log.Info("ca created", "secret", s.cfg.Namespace+"/"+caSecretName, "not_after", ca.Certificate().NotAfter)
		return ca, nil
	case !apierrors.IsAlreadyExists(err):
		return nil, fmt.Errorf("create the CA (is the namespace %s there?): %w", s.cfg.Namespace, err)
	}
	if secret, err = secrets.Get(ctx, caSecretName, metav1.GetOptions{}); err != nil {
		return nil, fmt.Errorf("read the CA that another replica made: %w", err)
	}
	return s.parseCA(secret)
}

func (s *Service) parseCA(secret *corev1.Secret) (*issuer.CA, error) {
	ca, err := issuer.ParseCA(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w; restore it from a backup, or delete it for a new CA and join every edge again",
			s.cfg.Namespace, caSecretName, err)
	}
	return ca, nil
}

func ownLabels() map[string]string {
	return map[string]string{"app.kubernetes.io/managed-by": "skerry"}
}
