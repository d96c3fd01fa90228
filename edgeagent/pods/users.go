package pods

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/userns"
)

// ownUsers says whether the pod has users of its own.
func ownUsers(pod *corev1.Pod) bool { return pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers }

// users are the pod's own; nil for a pod that has the machine's. A runtime that can't
// give them would take no notice, and root in the pod would be the machine's: that is
// worse than not to run it. So it is asked each time, since it may be another by now.
func (e *env) users(ctx context.Context, pod *corev1.Pod, handler string) (*cri.Users, error) {
	if !ownUsers(pod) {
		return nil, nil
	}
	can, err := e.Features(ctx, handler)
	if err != nil {
		return nil, err
	}
	if !can.UserNamespaces && handler == "" {
		return nil, errors.New("can't set `spec.hostUsers: false`, runtime does not support user namespaces")
	}
	if !can.UserNamespaces {
		return nil, fmt.Errorf("can't set `spec.hostUsers: false`, RuntimeClass handler %q does not support user namespaces", handler)
	}
	if err := canMapVolumes(e.kernel, pod); err != nil {
		return nil, err
	}
	first, err := e.ranges.First(ctx, pod.UID)
	if err != nil {
		return nil, fmt.Errorf("create user namespace: %w", err)
	}
	return &cri.Users{First: first, Count: userns.Size}, nil
}
