package enroll

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy/enroll/jointoken"
)

// maxConflicts bounds the attempts to spend a token that others spend too. Every
// conflict means that another join went through, so eight in a row are rare even
// in a burst, and a client that lost them all tries again.
const maxConflicts = 8

// enroll exchanges a token for a certificate. The order matters: nothing is told
// or looked up beyond the token's Secret before its secret was right, everything
// that can be wrong is checked before a use is spent, and the use is spent before
// anything is signed.
func (s *Service) enroll(ctx context.Context, req certs.EnrollRequest, source netip.Addr) (certs.EnrollResponse, error) {
	auth := s.identity.Load()
	if auth == nil {
		return certs.EnrollResponse{}, errors.New("not ready")
	}
	key, err := issuer.CheckRequest([]byte(req.CSR))
	if err != nil {
		return certs.EnrollResponse{}, refuse(certs.CodeBadRequest, err.Error())
	}
	token, err := jointoken.Parse(req.Token)
	if err != nil {
		return certs.EnrollResponse{}, jointoken.Unauthorized()
	}
	hash, err := jointoken.KeyHash(key)
	if err != nil {
		return certs.EnrollResponse{}, err
	}
	id := certs.Identity{Cluster: auth.cluster, Node: req.NodeName}
	secret, again, err := s.spend(ctx, jointoken.Claim{
		Token: token, Node: req.NodeName, Key: hash, Revoked: s.revoked.when(req.NodeName),
	})
	if err != nil {
		return certs.EnrollResponse{}, err
	}
	certificate, err := auth.state.Signer().SignEdge([]byte(req.CSR), id, s.cfg.TTL)
	if err != nil {
		return certs.EnrollResponse{}, err
	}
	again = again || s.cfg.Connected(req.NodeName)
	s.log.Info("edge enrolled", "node", req.NodeName, "token", token.ID, "source", source.String(), "again", again,
		"agent_version", loggable(req.AgentVersion), "os", loggable(req.OS), "arch", loggable(req.Arch))
	s.recordUse(ctx, secret, req.NodeName, source, again)
	return certs.EnrollResponse{
		Certificate: string(certificate),
		CA:          string(certs.EncodeBundle(auth.state.Trusted())),
		Cluster:     auth.cluster,
		NodeName:    req.NodeName,
	}, nil
}

// spend checks the token and everything that depends on the node's name, and
// writes the use. It reports whether the node was there already.
func (s *Service) spend(ctx context.Context, claim jointoken.Claim) (secret *corev1.Secret, again bool, err error) {
	secrets := s.cfg.Client.CoreV1().Secrets(jointoken.Namespace)
	for range maxConflicts {
		secret, err = secrets.Get(ctx, jointoken.SecretName(claim.Token.ID), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, false, jointoken.Unauthorized()
		}
		if err != nil {
			return nil, false, fmt.Errorf("read token %s: %w", claim.Token.ID, err)
		}
		next, err := jointoken.Spend(secret, claim, time.Now())
		if err != nil {
			return nil, false, err
		}
		if again, err = s.checkNode(ctx, claim.Node); err != nil {
			return nil, false, err
		}
		if next == nil {
			return secret, again, nil
		}
		_, err = secrets.Update(ctx, next, metav1.UpdateOptions{})
		switch {
		case err == nil:
			return secret, again, nil
		case apierrors.IsNotFound(err): // deleted meanwhile, so no longer valid
			return nil, false, jointoken.Unauthorized()
		case !apierrors.IsConflict(err):
			return nil, false, fmt.Errorf("spend token %s: %w", claim.Token.ID, err)
		}
	}
	return nil, false, refuse(certs.CodeUnavailable, "too many joins with this token at once, try again")
}

// checkNode refuses names that a token must not buy.
func (s *Service) checkNode(ctx context.Context, name string) (exists bool, err error) {
	if s.revoked.covers(name, time.Now().Truncate(time.Second)) {
		return false, refuse(certs.CodeRevokedNow, fmt.Sprintf("node %q is revoked up to a moment that has not passed yet; "+
			"try again in a few seconds, or correct its entry in ConfigMap %s/%s", name, s.cfg.Namespace, revokedName))
	}
	node, err := s.ownNode(ctx, name)
	return node != nil, err
}

// ownNode gives the Node of that name, nil when there is none, and refuses one that is
// none of ours.
func (s *Service) ownNode(ctx context.Context, name string) (*corev1.Node, error) {
	node, err := s.cfg.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // a name that is free is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read node %s: %w", name, err)
	}
	if !s.cfg.ManagedNode(node) {
		return nil, refuse(certs.CodeNodeTaken, fmt.Sprintf(
			"the cluster has a node %q that is not an edge; choose another name (--node-name)", name))
	}
	return node, nil
}
