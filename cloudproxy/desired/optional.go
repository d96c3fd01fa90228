package desired

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// unservedPause is how often it is looked whether an API has come, as when a cluster
// becomes a newer version.
const unservedPause = 5 * time.Minute

// undefinedPause is how often it is looked whether definitions have come: who applies
// them waits for what they do.
const undefinedPause = 30 * time.Second

// optional says whether to go on without a resource: not every cluster serves it, or
// this proxy is new and the roles of the cluster are not, which must not keep edges from
// all the rest. Of what is not known nothing is concluded.
func (p *Publisher) optional(ctx context.Context, r wire.Resource) bool {
	switch r {
	case wire.ResourceBundles:
		return true
	case wire.ResourceServices:
		_, err := p.serves(ctx, r)
		return apierrors.IsForbidden(err)
	case wire.ResourceCertificates, wire.ResourceDevices, wire.ResourceDeviceModels:
		// Where they are served, edges must not hear otherwise while they are listed.
		served, _ := p.serves(ctx, r)
		return !served
	default:
		return false
	}
}

// watchedAs gives the resource that is watched for what is sent as r.
func watchedAs(r wire.Resource) wire.Resource {
	if r == wire.ResourceServiceLinks {
		return wire.ResourceServices
	}
	return r
}

// known says whether the cache has what the API has of a resource, or would have it if
// there were one.
func (p *Publisher) known(r wire.Resource) bool {
	r = watchedAs(r)
	informer := p.named[r]
	return informer != nil && (!p.late[r] || informer.HasSynced())
}

// runOptional watches a resource as soon as the cluster serves it.
func (p *Publisher) runOptional(ctx context.Context, r wire.Resource, informer cache.SharedIndexInformer) {
	for wait := minRetry; ; {
		served, err := p.serves(ctx, r)
		if served {
			break
		}
		if err != nil {
			wait = min(2*wait, maxRetry)
			p.log.Warn("resource can't be watched yet; if it is forbidden, apply the manifests of this version", "resource", r, "error", err, "wait", wait)
		} else {
			wait = unserved(r)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-informer.HasSyncedChecker().Done():
			p.resync(r)
		case <-ctx.Done():
		}
	}()
	informer.RunWithContext(ctx)
	<-done
}

// unserved is how long after it was not served a resource is asked for again.
func unserved(r wire.Resource) time.Duration {
	if r == wire.ResourceDevices || r == wire.ResourceDeviceModels {
		return undefinedPause
	}
	return unservedPause
}

// serves asks for one object: what is not served is not found.
func (p *Publisher) serves(ctx context.Context, r wire.Resource) (bool, error) {
	var err error
	one := metav1.ListOptions{Limit: 1}
	switch r {
	case wire.ResourceBundles:
		_, err = p.client.CertificatesV1().ClusterTrustBundles().List(ctx, one)
	case wire.ResourceCertificates:
		_, err = p.client.CertificatesV1().PodCertificateRequests(metav1.NamespaceAll).List(ctx, one)
	case wire.ResourceServices:
		_, err = p.client.CoreV1().Services(metav1.NamespaceAll).List(ctx, one)
	case wire.ResourceDevices, wire.ResourceDeviceModels:
		_, err = p.dynamic.Resource(v1alpha1.GroupVersion().WithResource(string(r))).List(ctx, one)
	default:
		return false, nil
	}
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list %s: %w", r, err)
	}
	return true, nil
}
