package desired

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// labelEdge is "true" on the Nodes of edges.
const labelEdge = "skerry.io/edge"

// placing leaves of a Node what decides whether a pod may run there.
func placing(n *corev1.Node) *corev1.Node {
	taints := slices.DeleteFunc(slices.Clone(n.Spec.Taints), func(t corev1.Taint) bool {
		// What the cluster thinks of the link, the edge knows better; each outage would
		// make it two changes.
		return t.Key == corev1.TaintNodeUnreachable || t.Key == corev1.TaintNodeNotReady
	})
	for i := range taints {
		taints[i].TimeAdded = nil
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, Labels: n.Labels},
		Spec:       corev1.NodeSpec{Taints: taints, Unschedulable: n.Spec.Unschedulable},
	}
}

// ownNode has the stream look after the edge's own Node, which no pod names.
func (s *stream) ownNode() {
	key := wire.ClusterKey(wire.ResourceNodes, s.node)
	s.users[key]++
	s.pub.use(key, s)
	s.mark(key)
}

// nodeValue gives a Node as it is sent. Its version is a hash: a status that an edge
// reports does not come back.
func (p *Publisher) nodeValue(name string) (value, bool) {
	n := cached[*corev1.Node](p.named[wire.ResourceNodes], "", name)
	if n == nil {
		return value{}, false
	}
	own := *n
	own.ResourceVersion = ""
	own.Annotations = make(map[string]string)
	if p.known(wire.ResourceCertificates) {
		own.Annotations[wire.AnnotationCertificates] = "true"
	}
	if p.samples {
		own.Annotations[wire.AnnotationSamples] = "true"
	}
	return hashed(string(own.UID)+"/", &own)
}

// hashed gives an object of which the version is a hash of its bytes.
func hashed(prefix string, o interface{ Marshal() ([]byte, error) }) (value, bool) {
	b, err := o.Marshal()
	if err != nil {
		return value{}, false // of what was decoded nothing fails to be encoded
	}
	sum := sha256.Sum256(b)
	return value{version: prefix + hex.EncodeToString(sum[:12]), marshal: func() ([]byte, error) { return b, nil }}, true
}
