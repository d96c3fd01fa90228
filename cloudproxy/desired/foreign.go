package desired

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// maxConfirms is how many pods are asked for one by one, before a list of all
// that are bound to the node costs the API server less.
const maxConfirms = 16

// dismiss takes from the edge the pods that it said it holds and that the API does
// not have on it. Each may be deleted by a read of its own, too, in lookAtPod; but
// how many they are is the edge's word.
//
// It asks once. That is enough for what the edge held before: a UID that is not
// bound to the node now never will be again.
func (s *stream) dismiss(ctx context.Context) error {
	var doubted []string
	for _, key := range s.keys() {
		r, namespace, name, _, ok := wire.SplitKey(key)
		if !ok || r != wire.ResourcePods {
			continue
		}
		// Those that the cache shows on this node are as many as the API has.
		if pod := cached[*corev1.Pod](s.pub.pods, namespace, name); pod == nil || pod.Spec.NodeName != s.node {
			doubted = append(doubted, key)
		}
	}
	if len(doubted) <= maxConfirms {
		return nil
	}
	bound, err := s.bound(ctx)
	if err != nil {
		return err
	}
	return s.removeUnbound(ctx, doubted, bound)
}

// removeUnbound takes from the edge what the API does not have on it; bound is what it
// has, by the keys.
func (s *stream) removeUnbound(ctx context.Context, doubted []string, bound map[string]types.UID) error {
	for _, key := range doubted {
		if version, _ := s.version(key); bound[key] == versionUID(version) {
			continue // the cache is behind
		}
		if err := s.room(ctx); err != nil {
			return err
		}
		if err := s.remove(key); err != nil {
			return err
		}
	}
	return nil
}

// bound gives the UIDs of the pods that the API has on the node, by their keys.
func (s *stream) bound(ctx context.Context) (map[string]types.UID, error) {
	return insist(ctx, s, "pods of the node can't be listed", func() (map[string]types.UID, error) {
		list, err := s.pub.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
			FieldSelector: fields.OneTermEqualSelector("spec.nodeName", s.node).String(),
		})
		if err != nil {
			return nil, fmt.Errorf("list pods: %w", err)
		}
		bound := make(map[string]types.UID)
		for i := range list.Items {
			if pod := &list.Items[i]; pod.Spec.NodeName == s.node {
				bound[wire.ObjectKey(wire.ResourcePods, pod.Namespace, pod.Name)] = pod.UID
			}
		}
		return bound, nil
	})
}

// confirm reads a pod from the API itself; nil when there is none.
func (s *stream) confirm(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return insist(ctx, s, "pod can't be read before it is taken from its edge", func() (*corev1.Pod, error) {
		pod, err := s.pub.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, nil //nolint:nilnil // absence is the answer
		}
		if err != nil {
			return nil, fmt.Errorf("get pod %s/%s: %w", namespace, name, err)
		}
		_, err = strip(pod) // as the cache has it, or it would look changed
		return pod, err
	})
}

// insist reads until it works or ctx ends.
func insist[T any](ctx context.Context, s *stream, complaint string, read func() (T, error)) (T, error) {
	for wait := minRetry; ; wait = min(2*wait, maxRetry) {
		v, err := read()
		if err == nil {
			return v, nil
		}
		s.log.Warn("API can't be read", "error", err, "what", complaint, "wait", wait)
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		}
	}
}
