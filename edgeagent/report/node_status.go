package report

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// NodeStatus gives the node's status as it is now, for whoever asks on this
// machine.
func (r *Reporter) NodeStatus(ctx context.Context) *corev1.NodeStatus {
	r.node.mu.Lock()
	last := r.node.last
	r.node.mu.Unlock()
	var before []corev1.NodeCondition
	if last != nil {
		before = last.Conditions
	}
	return r.node.status(ctx, time.Now(), before)
}
