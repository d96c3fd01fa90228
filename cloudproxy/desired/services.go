package desired

import (
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// apiService is the service by which pods find the API, in the namespace default.
// Pods of all namespaces are told of it.
const apiService = "kubernetes"

// linked leaves of a service what environment variables tell, for memory and link.
func linked(s *corev1.Service) *corev1.Service {
	out := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion},
		Spec:       corev1.ServiceSpec{ClusterIP: s.Spec.ClusterIP},
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
	}
	return out
}

// services gives the keys of the services that the pod's environment tells of.
func (n *collector) services() {
	if links := n.pod.Spec.EnableServiceLinks; links == nil || *links {
		n.add(wire.ClusterKey(wire.ResourceServiceLinks, n.pod.Namespace))
	}
	n.add(wire.ObjectKey(wire.ResourceServices, metav1.NamespaceDefault, apiService))
}

// links keeps what serviceLinks has made for each namespace: every look at a pod asks.
type links struct {
	mu      sync.Mutex
	made    map[string]value
	changes uint64 // of any service
}

// changed forgets a namespace of which a service has changed.
func (l *links) changed(namespace string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes++
	delete(l.made, namespace)
}

func (l *links) get(namespace string, make func() value) value {
	l.mu.Lock()
	v, ok := l.made[namespace]
	before := l.changes
	l.mu.Unlock()
	if ok {
		return v
	}
	v = make()
	l.mu.Lock()
	defer l.mu.Unlock()
	// What was read before a change is not to be kept.
	if l.changes == before {
		l.made[namespace] = v
	}
	return v
}

// serviceLinks gives the services of a namespace as pods there are told of them;
// nothing when there are none.
func (p *Publisher) serviceLinks(namespace string) (value, bool) {
	v := p.links.get(namespace, func() value {
		v, _ := p.makeLinks(namespace)
		return v
	})
	return v, v.marshal != nil
}

// makeLinks reads them from the cache. The version is a hash, so that what pods are not
// told costs the link nothing.
func (p *Publisher) makeLinks(namespace string) (value, bool) {
	var list corev1.ServiceList
	for _, s := range indexed[*corev1.Service](p.named[wire.ResourceServices], cache.NamespaceIndex, namespace) {
		if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone ||
			namespace == metav1.NamespaceDefault && s.Name == apiService {
			continue
		}
		list.Items = append(list.Items, corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: s.Name}, Spec: s.Spec})
	}
	if len(list.Items) == 0 {
		return value{}, false
	}
	slices.SortFunc(list.Items, func(a, b corev1.Service) int { return strings.Compare(a.Name, b.Name) })
	return hashed("", &list)
}
