package enroll

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
)

// publishRetry is how soon what could not be published is tried again.
const publishRetry = 10 * time.Second

// watchCA follows the Secret until ctx ends, so that every replica goes along with a
// rotation. While the API is away the last known CAs stay in force; so they do when
// the Secret is deleted or can't be read, for edges trust what it said.
func (s *Service) watchCA(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(s.cfg.Client, 0,
		informers.WithNamespace(s.cfg.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, rotation.SecretName).String()
		}))
	informer := factory.Core().V1().Secrets().Informer()
	publish := make(chan struct{}, 1)
	update := func(obj any) {
		secret, ok := obj.(*corev1.Secret)
		if !ok || secret.Name != rotation.SecretName {
			return
		}
		changed, err := s.adopt(secret)
		if err != nil {
			s.log.Error("the ca's secret has changed and is not taken over", "err", err)
		}
		if changed {
			select {
			case publish <- struct{}{}:
			default:
			}
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    update,
		UpdateFunc: func(_, obj any) { update(obj) },
		DeleteFunc: func(any) {
			s.log.Error("the ca's secret is gone: restore it before this proxy restarts, else a new CA is made and every edge has to join again",
				"secret", s.cfg.Namespace+"/"+rotation.SecretName)
		},
	})
	if err != nil {
		return fmt.Errorf("watch the CA: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	var retry <-chan time.Time
	for {
		select {
		case <-publish:
		case <-retry:
		case <-ctx.Done():
			return ctx.Err()
		}
		retry = nil
		if err := s.publish(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("what join commands need is not published", "err", err, "retry_in", publishRetry)
			retry = time.After(publishRetry)
		}
	}
}

// adopt takes over what the Secret says, and reports whether that was news.
func (s *Service) adopt(secret *corev1.Secret) (bool, error) {
	next, err := s.parseCA(secret)
	if err != nil {
		return false, err
	}
	s.prepare.Lock()
	defer s.prepare.Unlock()
	now := s.identity.Load()
	if now.state.Equal(next) {
		return false, nil
	}
	if !next.Follows(now.state) {
		return false, fmt.Errorf("secret %s/%s: it holds another CA, which edges do not trust: put the old one back, "+
			"and have `skerry ca rotate --ca-cert --ca-key` bring the new one", s.cfg.Namespace, rotation.SecretName)
	}
	auth := &authority{cluster: now.cluster, state: next}
	if next.CA.Certificate().Equal(now.state.CA.Certificate()) {
		auth.server.Store(now.server.Load())
	} else if err := s.renewServerCertificate(auth); err != nil {
		return false, err
	}
	s.identity.Store(auth)
	close(s.changed)
	s.changed = make(chan struct{})
	s.log.Info("ca changed", "phase", string(next.Phase), "ca_hash", next.CA.Hash().String(),
		"signer", next.Signer().Hash().String(), "trusted", len(next.Trusted()))
	return true, nil
}

// publish writes what join commands need.
func (s *Service) publish(ctx context.Context) error {
	auth := s.identity.Load()
	return writeInfo(ctx, s.cfg.Client, s.cfg.Namespace, auth.info(s.cfg.Advertise[0]))
}

// State gives the CAs as they stand, nil before Prepare.
func (s *Service) State() *rotation.State {
	if auth := s.identity.Load(); auth != nil {
		return auth.state
	}
	return nil
}

// Changed gives a channel that is closed when State next becomes another. Ask for it
// before State.
func (s *Service) Changed() <-chan struct{} {
	s.prepare.Lock()
	defer s.prepare.Unlock()
	return s.changed
}
