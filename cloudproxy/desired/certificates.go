package desired

import (
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// byPod is the name of the index of PodCertificateRequests by spec.podUID.
const byPod = "pod"

func indexByPod(o any) ([]string, error) {
	if r, ok := o.(*certificatesv1.PodCertificateRequest); ok {
		return []string{string(r.Spec.PodUID)}, nil
	}
	return nil, nil
}

// answered leaves of a request what its edge does not know: the edge has made the PKCS#10
// request itself.
func answered(r *certificatesv1.PodCertificateRequest) *certificatesv1.PodCertificateRequest {
	return &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: r.Name, UID: r.UID, ResourceVersion: r.ResourceVersion},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: r.Spec.SignerName, PodName: r.Spec.PodName, PodUID: r.Spec.PodUID, NodeName: r.Spec.NodeName,
		},
		Status: r.Status,
	}
}

// certificates adds the answers to what was asked for the pod.
func (n *collector) certificates() {
	for _, name := range n.look.answers(n.pod.UID) {
		n.add(wire.ObjectKey(wire.ResourceCertificates, n.pod.Namespace, name))
	}
}

// answers implements caches. What nobody has answered yet has nothing to say.
func (p *Publisher) answers(pod types.UID) []string {
	var names []string
	for _, r := range p.requestsOf(pod) {
		if len(r.Status.Conditions) > 0 {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return names
}

func (p *Publisher) requestsOf(pod types.UID) []*certificatesv1.PodCertificateRequest {
	return indexed[*certificatesv1.PodCertificateRequest](p.named[wire.ResourceCertificates], byPod, string(pod))
}

// CertificateRequests gives the names of the PodCertificateRequests of a pod that edges have
// asked for and that are still there, in no order, and whether these are all: before the
// first list, or where they can't be listed, nobody knows.
func (p *Publisher) CertificateRequests(pod types.UID) (names []string, known bool) {
	select {
	case <-p.ready:
	default:
		return nil, false
	}
	for _, r := range p.requestsOf(pod) {
		names = append(names, r.Name)
	}
	return names, p.known(wire.ResourceCertificates)
}

// requestChanged has the pod looked at for which something was asked: it may have come to
// name the answer.
func (p *Publisher) requestChanged(o metav1.Object) {
	r, ok := o.(*certificatesv1.PodCertificateRequest)
	if !ok || len(r.Status.Conditions) == 0 {
		return
	}
	if s := p.nodes[string(r.Spec.NodeName)]; s != nil {
		s.mark(wire.ObjectKey(wire.ResourcePods, r.Namespace, r.Spec.PodName))
	}
}
