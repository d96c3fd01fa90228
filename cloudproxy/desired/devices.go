package desired

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// confirmTimeout bounds a read of the API about Devices: pods must not wait for it.
	confirmTimeout = 10 * time.Second
	// deviceFact is the beginning of the key of a Device.
	deviceFact = string(wire.ResourceDevices) + "/"
	// listChunk is how many Devices, with their statuses, are listed at a time.
	listChunk = 200
)

// doubts is what a stream knows of Devices that its edge holds and the cache does not
// have there.
type doubts struct {
	// listed says that what the edge said in the beginning was looked through.
	listed bool
	// again is when the API is asked again, after it could not be read.
	again time.Time
	// spared are keys by namespace that were left on the edge because a Device there may
	// name them.
	spared map[string][]string
}

// lookAtDevice is lookAtPod for a Device. To take one from an edge deletes what its
// driver has stored, and an earlier generation would write what was desired once; so
// neither is done by the cache's word. Where the API gives none, the edge keeps what it
// has: the definitions may be gone, or the right to read them, which must not hold up
// pods.
func (s *stream) lookAtDevice(ctx context.Context, key, namespace, name string) error {
	if !s.pub.known(wire.ResourceDevices) {
		return nil
	}
	d := cached[*defined](s.pub.named[wire.ResourceDevices], namespace, name)
	if version, held := s.version(key); held && d.doubtful(version, s.node) {
		var sure bool
		var err error
		if d, sure, err = s.resolve(ctx, key, namespace, name); err != nil || !sure {
			return err
		}
	}
	before := s.named[key]
	spared := s.doubts.spared[namespace]
	delete(s.doubts.spared, namespace)
	for _, k := range spared {
		s.mark(k)
	}
	if d == nil || d.node != s.node {
		delete(s.named, key)
		if err := s.remove(key); err != nil {
			return err
		}
		return s.release(ctx, before)
	}
	s.named[key] = d.names
	if err := s.useAll(ctx, d.names); err != nil {
		return err
	}
	if err := s.put(key, d.version(), d.Marshal); err != nil {
		return err
	}
	return s.release(ctx, before)
}

// resolve asks the API about a Device that the edge holds; sure is false when there is
// no answer for now.
func (s *stream) resolve(ctx context.Context, key, namespace, name string) (d *defined, sure bool, err error) {
	if time.Now().Before(s.doubts.again) {
		return nil, false, nil
	}
	err = s.dismissDevices(ctx)
	if _, held := s.version(key); err == nil && held {
		d, err = s.confirmDevice(ctx, namespace, name)
	}
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	if err != nil {
		s.log.Warn("device can't be read before it is taken from its edge, which keeps it for now", "key", key, "error", err, "wait", maxRetry)
		s.doubts.again = time.Now().Add(maxRetry)
		return nil, false, nil
	}
	return d, true, nil
}

// confirmDevice reads a Device from the API itself; nil when there is none.
func (s *stream) confirmDevice(ctx context.Context, namespace, name string) (*defined, error) {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	resource := v1alpha1.GroupVersion().WithResource(v1alpha1.Devices)
	u, err := s.pub.dynamic.Resource(resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	// That there is no such API, or not on this API server yet, is not found, too.
	if apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) {
		return nil, nil //nolint:nilnil // absence is the answer
	}
	if err != nil {
		return nil, fmt.Errorf("get device %s/%s: %w", namespace, name, err)
	}
	return definedOf(u)
}

// dismissDevices is dismiss for Devices, when the first of them is in doubt. Devices
// can't be selected by node, so what a hostile edge may have listed is bounded for all
// edges together.
func (s *stream) dismissDevices(ctx context.Context) error {
	if s.doubts.listed {
		return nil
	}
	var doubted []string
	for _, key := range s.keys() {
		r, namespace, name, _, ok := wire.SplitKey(key)
		if !ok || r != wire.ResourceDevices {
			continue
		}
		if d := cached[*defined](s.pub.named[r], namespace, name); d == nil || d.node != s.node {
			doubted = append(doubted, key)
		}
	}
	if len(doubted) > maxConfirms {
		bound, err := s.boundDevices(ctx)
		if err != nil {
			return err
		}
		if err := s.removeUnbound(ctx, doubted, bound); err != nil {
			return err
		}
	}
	s.doubts.listed = true
	return nil
}

// boundDevices gives the UIDs of the Devices that the API has on the node, by their keys.
func (s *stream) boundDevices(ctx context.Context) (map[string]types.UID, error) {
	select {
	case s.pub.deviceLists <- struct{}{}:
		defer func() { <-s.pub.deviceLists }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	bound := make(map[string]types.UID)
	options := metav1.ListOptions{Limit: listChunk}
	for {
		list, err := s.pub.dynamic.Resource(v1alpha1.GroupVersion().WithResource(v1alpha1.Devices)).List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		for i := range list.Items {
			u := &list.Items[i]
			if node, _, _ := unstructured.NestedString(u.Object, "spec", "nodeName"); node == s.node {
				bound[wire.ObjectKey(wire.ResourceDevices, u.GetNamespace(), u.GetName())] = u.GetUID()
			}
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return bound, nil
		}
	}
}

// spares says whether something that nobody is known to use stays on the edge: a Device
// of which nothing is decided yet may name it.
func (s *stream) spares(key string) bool {
	r, namespace, _, _, _ := wire.SplitKey(key)
	if r != wire.ResourceSecrets && r != wire.ResourceDeviceModels {
		return false
	}
	if !s.undecided(namespace) {
		return false
	}
	if keys := s.doubts.spared[namespace]; !slices.Contains(keys, key) {
		s.doubts.spared[namespace] = append(keys, key)
	}
	return true
}

// undecided says whether the edge holds a Device of a namespace that was not decided on.
func (s *stream) undecided(namespace string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.versions {
		if !strings.HasPrefix(key, deviceFact) {
			continue
		}
		if _, of, _, _, ok := wire.SplitKey(key); ok && of == namespace {
			if _, decided := s.named[key]; !decided {
				return true
			}
		}
	}
	return false
}

// markDoubted has Devices looked at again when the API may have come to answer.
func (s *stream) markDoubted(now time.Time) {
	if s.doubts.again.IsZero() || now.Before(s.doubts.again) {
		return
	}
	s.doubts.again = time.Time{}
	for _, key := range s.keys() {
		if strings.HasPrefix(key, deviceFact) {
			s.mark(key)
		}
	}
}
