package desired

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// defaultTokenSeconds is what the API defaults expirationSeconds to.
const defaultTokenSeconds = 3600

// tokenSpec is a service account token that a pod projects.
type tokenSpec struct {
	audience string
	seconds  int64
}

// wanted says whether the edge should hold the pod. A pod whose deletion it has
// confirmed already can still be in the API, held by a finalizer: it has nothing
// left for the edge to do.
func wanted(pod *corev1.Pod, node string) bool {
	if pod == nil || pod.Spec.NodeName != node || mirror(pod) {
		return false
	}
	gone := pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0
	return !gone || !finished(pod)
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// caches is what decides beyond the pod what it names.
type caches interface {
	// claim gives a claim, or nil.
	claim(namespace, name string) *corev1.PersistentVolumeClaim
	// answers gives the names of the PodCertificateRequests of a pod that are answered.
	answers(pod types.UID) []string
	// bundles gives the names of a signer's ClusterTrustBundles that a selector matches.
	bundles(signer string, selector *metav1.LabelSelector) []string
}

// names gives the keys of what the pod needs to run, each once. A finished pod
// needs nothing, and an edge should hold no secret that it does not need.
func names(pod *corev1.Pod, look caches) (keys []string, tokens map[string]tokenSpec) {
	if finished(pod) {
		return nil, nil
	}
	n := collector{pod: pod, look: look, seen: make(map[string]bool), tokens: make(map[string]tokenSpec)}
	for _, r := range pod.Spec.ImagePullSecrets {
		n.secret(r.Name)
	}
	for i := range pod.Spec.InitContainers {
		n.env(pod.Spec.InitContainers[i].Env, pod.Spec.InitContainers[i].EnvFrom)
	}
	for i := range pod.Spec.Containers {
		n.env(pod.Spec.Containers[i].Env, pod.Spec.Containers[i].EnvFrom)
	}
	for i := range pod.Spec.EphemeralContainers {
		n.env(pod.Spec.EphemeralContainers[i].Env, pod.Spec.EphemeralContainers[i].EnvFrom)
	}
	if class := pod.Spec.RuntimeClassName; class != nil && *class != "" {
		n.add(wire.ClusterKey(wire.ResourceRuntimeClasses, *class))
	}
	n.services()
	for i := range pod.Spec.Volumes {
		n.volume(&pod.Spec.Volumes[i])
	}
	return n.keys, n.tokens
}

type collector struct {
	pod    *corev1.Pod
	look   caches
	seen   map[string]bool
	keys   []string
	tokens map[string]tokenSpec
}

func (n *collector) add(key string) {
	if !n.seen[key] {
		n.seen[key] = true
		n.keys = append(n.keys, key)
	}
}

func (n *collector) secret(name string) {
	if name != "" {
		n.add(wire.ObjectKey(wire.ResourceSecrets, n.pod.Namespace, name))
	}
}

func (n *collector) configMap(name string) {
	if name != "" {
		n.add(wire.ObjectKey(wire.ResourceConfigMaps, n.pod.Namespace, name))
	}
}

func (n *collector) env(env []corev1.EnvVar, from []corev1.EnvFromSource) {
	for _, f := range from {
		if f.ConfigMapRef != nil {
			n.configMap(f.ConfigMapRef.Name)
		}
		if f.SecretRef != nil {
			n.secret(f.SecretRef.Name)
		}
	}
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			n.configMap(r.Name)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			n.secret(r.Name)
		}
	}
}

func (n *collector) volume(v *corev1.Volume) {
	switch {
	case v.ConfigMap != nil:
		n.configMap(v.ConfigMap.Name)
	case v.Secret != nil:
		n.secret(v.Secret.SecretName)
	case v.PersistentVolumeClaim != nil:
		n.claim(v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		n.claim(n.pod.Name + "-" + v.Name)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				n.configMap(s.ConfigMap.Name)
			}
			if s.Secret != nil {
				n.secret(s.Secret.Name)
			}
			if s.ServiceAccountToken != nil {
				n.token(s.ServiceAccountToken)
			}
			if s.ClusterTrustBundle != nil {
				n.bundle(s.ClusterTrustBundle)
			}
			if s.PodCertificate != nil {
				n.certificates()
			}
		}
	}
}

// claim adds a claim and the volume that it is bound to.
func (n *collector) claim(name string) {
	if name == "" {
		return
	}
	n.add(wire.ObjectKey(wire.ResourceClaims, n.pod.Namespace, name))
	if c := n.look.claim(n.pod.Namespace, name); c != nil && c.Spec.VolumeName != "" {
		n.add(wire.ClusterKey(wire.ResourceVolumes, c.Spec.VolumeName))
	}
}

func (n *collector) token(p *corev1.ServiceAccountTokenProjection) {
	t := tokenSpec{audience: p.Audience, seconds: defaultTokenSeconds}
	if p.ExpirationSeconds != nil {
		t.seconds = *p.ExpirationSeconds
	}
	key := wire.TokenKey(n.pod.Namespace, n.pod.Name, wire.TokenID(string(n.pod.UID), t.audience, t.seconds))
	n.add(key)
	n.tokens[key] = t
}
