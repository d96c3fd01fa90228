package desired

import (
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// bySigner is the name of the index of ClusterTrustBundles by spec.signerName.
const bySigner = "signer"

func indexBySigner(o any) ([]string, error) {
	if b, ok := o.(*certificatesv1.ClusterTrustBundle); ok && b.Spec.SignerName != "" {
		return []string{b.Spec.SignerName}, nil
	}
	return nil, nil
}

// signerKey stands among the keys that a pod names for all bundles of a signer, of
// which it may come to name more. Nothing is sent under it; behind followKey it has
// the pods looked at that name it.
func signerKey(signer string) string { return signerPrefix + signer }

const signerPrefix = "signers/"

const followKey = "follow/"

// bundle adds the trust bundles that a projected source shows.
func (n *collector) bundle(src *corev1.ClusterTrustBundleProjection) {
	switch {
	case src.Name != nil && *src.Name != "":
		n.add(wire.ClusterKey(wire.ResourceBundles, *src.Name))
	case src.SignerName != nil && *src.SignerName != "":
		n.add(signerKey(*src.SignerName))
		for _, name := range n.look.bundles(*src.SignerName, src.LabelSelector) {
			n.add(wire.ClusterKey(wire.ResourceBundles, name))
		}
	}
}

// bundles implements caches.
func (p *Publisher) bundles(signer string, selector *metav1.LabelSelector) []string {
	matches, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil // the API server lets none in that makes no sense
	}
	var names []string
	for _, b := range indexed[*certificatesv1.ClusterTrustBundle](p.named[wire.ResourceBundles], bySigner, signer) {
		if matches.Matches(labels.Set(b.Labels)) {
			names = append(names, b.Name)
		}
	}
	slices.Sort(names)
	return names
}

// followNamed has the pods looked at again that name key.
func (s *stream) followNamed(key string) {
	for pod, keys := range s.named {
		if slices.Contains(keys, key) {
			s.mark(pod)
		}
	}
}

// signerChanged tells the streams that show all bundles of a signer of one of them.
func (p *Publisher) signerChanged(o metav1.Object) {
	b, ok := o.(*certificatesv1.ClusterTrustBundle)
	if !ok || b.Spec.SignerName == "" {
		return
	}
	for _, s := range p.users[signerKey(b.Spec.SignerName)] {
		s.mark(followKey + signerKey(b.Spec.SignerName))
	}
}

// resync has all looked at that streams want of a resource that has come to be known, and
// what edges hold of it.
func (p *Publisher) resync(r wire.Resource) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, streams := range p.users {
		switch {
		case r == wire.ResourceBundles && strings.HasPrefix(key, signerPrefix):
			key = followKey + key
		case !shows(key, r):
			continue
		}
		for _, s := range streams {
			s.mark(key)
		}
	}
	for _, s := range p.nodes {
		for _, key := range s.keys() {
			if shows(key, r) {
				s.mark(key)
			}
		}
		if r == wire.ResourceDevices {
			for _, d := range p.devicesOf(s.node) {
				s.mark(wire.ObjectKey(r, d.Namespace, d.Name))
			}
		}
		if r == wire.ResourceCertificates {
			s.mark(wire.ClusterKey(wire.ResourceNodes, s.node)) // it tells of that
		}
	}
}

// shows says whether objects of a resource are sent under key.
func shows(key string, r wire.Resource) bool {
	of, _, _, _, ok := wire.SplitKey(key)
	return ok && watchedAs(of) == r
}
