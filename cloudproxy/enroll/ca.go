package enroll

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
)

// loadOrCreateCA is free of races between replicas: whoever's create comes second
// reads what the first one wrote. A Secret that is there but can't be read is an
// error and never overwritten, because every edge out there trusts the old key.
func (s *Service) loadOrCreateCA(ctx context.Context, cluster string) (*rotation.State, error) {
	secrets := s.cfg.Client.CoreV1().Secrets(s.cfg.Namespace)
	secret, err := secrets.Get(ctx, rotation.SecretName, metav1.GetOptions{})
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
	state := &rotation.State{CA: ca}
	secret = &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.cfg.Namespace, Name: rotation.SecretName},
		Type:       corev1.SecretTypeTLS,
	}
	if err := state.Fill(secret); err != nil {
		return nil, err
	}
	_, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
	switch {
	case err == nil:
		s.log.Info("ca created", "secret", s.cfg.Namespace+"/"+rotation.SecretName, "not_after", ca.Certificate().NotAfter)
		return state, nil
	case !apierrors.IsAlreadyExists(err):
		return nil, fmt.Errorf("create the CA (is the namespace %s there?): %w", s.cfg.Namespace, err)
	}
	if secret, err = secrets.Get(ctx, rotation.SecretName, metav1.GetOptions{}); err != nil {
		return nil, fmt.Errorf("read the CA that another replica made: %w", err)
	}
	return s.parseCA(secret)
}

func (s *Service) parseCA(secret *corev1.Secret) (*rotation.State, error) {
	state, err := rotation.Parse(secret)
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w; restore it from a backup, or delete it for a new CA and join every edge again",
			s.cfg.Namespace, rotation.SecretName, err)
	}
	return state, nil
}

func ownLabels() map[string]string {
	return map[string]string{managedByLabel: managedBy}
}
