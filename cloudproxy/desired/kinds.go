package desired

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	certinformers "k8s.io/client-go/informers/certificates/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	nodeinformers "k8s.io/client-go/informers/node/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// newNamed builds the watches of what pods name. It is one watch in the whole
// cluster of each kind, and not one per object as kubelets have: an edge that
// comes back costs no read at all. The price is their size in memory, so Helm's
// release Secrets, the bulk of it in many clusters, stay out.
func newNamed(client kubernetes.Interface) map[wire.Resource]cache.SharedIndexInformer {
	all := metav1.NamespaceAll
	return map[wire.Resource]cache.SharedIndexInformer{
		wire.ResourceConfigMaps: coreinformers.NewConfigMapInformer(client, all, 0, cache.Indexers{}),
		wire.ResourceSecrets: coreinformers.NewFilteredSecretInformer(client, all, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermNotEqualSelector("type", "helm.sh/release.v1").String()
		}),
		wire.ResourceClaims:   coreinformers.NewPersistentVolumeClaimInformer(client, all, 0, cache.Indexers{}),
		wire.ResourceVolumes:  coreinformers.NewPersistentVolumeInformer(client, 0, cache.Indexers{}),
		wire.ResourceServices: coreinformers.NewServiceInformer(client, all, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}),
		wire.ResourceNodes: coreinformers.NewFilteredNodeInformer(client, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
			o.LabelSelector = labelEdge + "=true"
		}),
		wire.ResourceBundles: certinformers.NewClusterTrustBundleInformer(client, 0, cache.Indexers{bySigner: indexBySigner}),
		wire.ResourceCertificates: certinformers.NewFilteredPodCertificateRequestInformer(client, all, 0, cache.Indexers{byPod: indexByPod}, func(o *metav1.ListOptions) {
			o.LabelSelector = labelEdge + "=true"
		}),
		wire.ResourceRuntimeClasses: nodeinformers.NewRuntimeClassInformer(client, 0, cache.Indexers{}),
	}
}

// value is an object as it is sent.
type value struct {
	version string
	marshal func() ([]byte, error)
}

// current gives what is under the key of something that pods name.
func (p *Publisher) current(key string) (value, bool) {
	resource, namespace, name, _, _ := wire.SplitKey(key)
	switch resource {
	case wire.ResourceServiceLinks:
		return p.serviceLinks(name)
	case wire.ResourceNodes:
		return p.nodeValue(name)
	default:
	}
	informer := p.named[resource]
	if informer == nil {
		return value{}, false
	}
	o := cached[marshaler](informer, namespace, name)
	if o == nil {
		return value{}, false
	}
	if d, ok := o.(*defined); ok {
		return value{version: d.version(), marshal: d.Marshal}, true
	}
	return value{version: objectVersion(o), marshal: o.Marshal}, true
}

// keysOf gives the keys under which an object of an informer is sent.
func keysOf(r wire.Resource, o metav1.Object) []string {
	switch {
	case r == wire.ResourceServices:
		return []string{
			wire.ObjectKey(r, o.GetNamespace(), o.GetName()),
			wire.ClusterKey(wire.ResourceServiceLinks, o.GetNamespace()),
		}
	case o.GetNamespace() == "":
		return []string{wire.ClusterKey(r, o.GetName())}
	default:
		return []string{wire.ObjectKey(r, o.GetNamespace(), o.GetName())}
	}
}

// claim gives a claim as the cache has it, or nil.
func (p *Publisher) claim(namespace, name string) *corev1.PersistentVolumeClaim {
	return cached[*corev1.PersistentVolumeClaim](p.named[wire.ResourceClaims], namespace, name)
}

// followClaim has the pods that name a claim looked at again when it has been
// bound to a volume that they do not name yet.
func (s *stream) followClaim(key, namespace, name string) {
	c := s.pub.claim(namespace, name)
	if c == nil || c.Spec.VolumeName == "" || s.users[wire.ClusterKey(wire.ResourceVolumes, c.Spec.VolumeName)] > 0 {
		return
	}
	for pod, keys := range s.named {
		if slices.Contains(keys, key) {
			s.mark(pod)
		}
	}
}
