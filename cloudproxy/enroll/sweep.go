package enroll

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/skerry-io/skerry/cloudproxy/enroll/jointoken"
)

const (
	sweepInterval = 10 * time.Minute
	// keepExpired is how long an expired or used-up token still gets its precise
	// answer ("expired at ...") instead of "unknown".
	keepExpired = 24 * time.Hour
)

// sweepTokens removes join tokens that ended. The token cleaner of Kubernetes does
// the same for expired ones where somebody switched it on.
func (s *Service) sweepTokens(ctx context.Context) error {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		if err := s.sweepOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Warn("old tokens not removed", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func (s *Service) sweepOnce(ctx context.Context, now time.Time) error {
	secrets := s.cfg.Client.CoreV1().Secrets(jointoken.Namespace)
	list, err := secrets.List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("type", string(jointoken.SecretType)).String(),
	})
	if err != nil {
		return fmt.Errorf("list tokens: %w", err)
	}
	for i := range list.Items {
		secret := &list.Items[i]
		grant, ok := jointoken.ReadGrant(secret)
		if !ok || !grant.EndedBy(now.Add(-keepExpired)) {
			continue
		}
		// The preconditions spare a token that was prolonged meanwhile.
		err := secrets.Delete(ctx, secret.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{
			UID: &secret.UID, ResourceVersion: &secret.ResourceVersion,
		}})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete token %s: %w", grant.ID, err)
		}
		s.log.Info("old token removed", "token", grant.ID)
	}
	return nil
}
