package enroll

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	component    = "skerry-cloudproxy"
	eventTimeout = 3 * time.Second
)

// recordUse leaves the audit trail in the cluster: who got a certificate by which
// token, from where. It is written before the answer goes out; a cluster that
// takes no Events keeps no edge out, the log has the same line.
func (s *Service) recordUse(ctx context.Context, secret *corev1.Secret, node string, source netip.Addr, again bool) {
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	what := "joined"
	if again {
		what = "joined again"
	}
	s.event(ctx, corev1.ObjectReference{
		APIVersion: "v1", Kind: "Secret", Namespace: secret.Namespace, Name: secret.Name, UID: secret.UID,
	}, corev1.EventTypeNormal, "JoinTokenUsed", fmt.Sprintf("node %s %s from %s", node, what, source))
	if again {
		// As the kubelet does for Nodes: the UID is the name, the namespace default.
		s.event(ctx, corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node, UID: types.UID(node)},
			corev1.EventTypeWarning, "EdgeJoinedAgain",
			fmt.Sprintf("a new certificate was issued by token %s to %s; revoke the node if that was not you", secret.Name, source))
	}
}

func (s *Service) event(ctx context.Context, about corev1.ObjectReference, kind, reason, text string) {
	namespace := about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, GenerateName: about.Name + "."},
		InvolvedObject:      about,
		Type:                kind,
		Reason:              reason,
		Message:             text,
		Source:              corev1.EventSource{Component: component},
		ReportingController: component,
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
	}
	if _, err := s.cfg.Client.CoreV1().Events(namespace).Create(ctx, event, metav1.CreateOptions{}); err != nil {
		s.log.Warn("event not written", "reason", reason, "about", about.Name, "err", err)
	}
}
