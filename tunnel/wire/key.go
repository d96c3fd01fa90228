package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// Resource is the first part of an object's key and says how its value is to be
// decoded.
type Resource string

// The resources of desired state.
const (
	// ResourcePods holds corev1.Pod under pods/NAMESPACE/NAME.
	ResourcePods Resource = "pods"
	// ResourceConfigMaps holds corev1.ConfigMap under configmaps/NAMESPACE/NAME.
	ResourceConfigMaps Resource = "configmaps"
	// ResourceSecrets holds corev1.Secret under secrets/NAMESPACE/NAME.
	ResourceSecrets Resource = "secrets"
	// ResourceTokens holds authenticationv1.TokenRequest under
	// tokens/NAMESPACE/POD/ID with the ID of TokenID.
	ResourceTokens Resource = "tokens"
	// ResourceClaims holds corev1.PersistentVolumeClaim under
	// persistentvolumeclaims/NAMESPACE/NAME.
	ResourceClaims Resource = "persistentvolumeclaims"
	// ResourceVolumes holds corev1.PersistentVolume under persistentvolumes/NAME.
	ResourceVolumes Resource = "persistentvolumes"
	// ResourceRuntimeClasses holds nodev1.RuntimeClass under runtimeclasses/NAME.
	ResourceRuntimeClasses Resource = "runtimeclasses"
	// ResourceNodes holds the corev1.Node of the edge itself under nodes/NAME, as far as
	// it decides what may run there.
	ResourceNodes Resource = "nodes"
	// ResourceBundles holds certificatesv1.ClusterTrustBundle under
	// clustertrustbundles/NAME.
	ResourceBundles Resource = "clustertrustbundles"
	// ResourceServices holds corev1.Service under services/NAMESPACE/NAME, as far as
	// environment variables tell of it.
	ResourceServices Resource = "services"
	// ResourceServiceLinks holds the corev1.ServiceList of a namespace under
	// servicelinks/NAMESPACE: what pods there are told of in their environment.
	ResourceServiceLinks Resource = "servicelinks"
	// ResourceCertificates holds certificatesv1.PodCertificateRequest under
	// podcertificaterequests/NAMESPACE/NAME with the NAME of CertificateRequestName, once
	// it has been answered.
	ResourceCertificates Resource = "podcertificaterequests"
	// ResourceDevices holds a devices/v1alpha1.Device as JSON, without its status, under
	// devices/NAMESPACE/NAME.
	ResourceDevices Resource = "devices"
	// ResourceDeviceModels holds a devices/v1alpha1.DeviceModel as JSON under
	// devicemodels/NAMESPACE/NAME.
	ResourceDeviceModels Resource = "devicemodels"
)

// AnnotationCertificates is "true" on the Node that an edge is sent of itself while the
// cluster takes requests for pods' certificates: it may come to, and edges learn of it as
// of anything else that is desired.
const AnnotationCertificates = "skerry.io/pod-certificates"

// AnnotationSamples is "true" on the Node that an edge is sent of itself while somebody
// takes samples of devices; else they would go over the link to be dropped.
const AnnotationSamples = "skerry.io/samples"

// ObjectKey gives the key of an object in a namespace.
func ObjectKey(r Resource, namespace, name string) string {
	return string(r) + "/" + namespace + "/" + name
}

// ClusterKey gives the key of an object that has no namespace, or of what there is
// once for each namespace.
func ClusterKey(r Resource, name string) string { return string(r) + "/" + name }

// TokenKey gives the key of a projected service account token.
func TokenKey(namespace, pod, id string) string {
	return ObjectKey(ResourceTokens, namespace, pod) + "/" + id
}

// TokenID names a projected service account token among those of its pod: the
// first 16 hex digits of the SHA-256 of the pod's UID, the audience and the
// lifetime in seconds, joined by newlines. Whatever asks for another token gets
// another ID, and so does the next pod of the same name.
func TokenID(podUID, audience string, seconds int64) string {
	sum := sha256.Sum256([]byte(podUID + "\n" + audience + "\n" + strconv.FormatInt(seconds, 10)))
	return hex.EncodeToString(sum[:8])
}

// CertificateRequestName names the PodCertificateRequest that an edge asks for: "skerry-"
// and the first 32 hex digits of the SHA-256 of its PKCS#10 request in DER. So the edge
// knows the answer by its name, and who asks twice has asked once.
func CertificateRequestName(der []byte) string {
	sum := sha256.Sum256(der)
	return "skerry-" + hex.EncodeToString(sum[:16])
}

// SplitKey takes a key apart. For a token name is the pod's and id the token's;
// else id is empty. The namespace is empty for what has none. A resource that this build does not know is not ok.
func SplitKey(key string) (r Resource, namespace, name, id string, ok bool) {
	p := strings.Split(key, "/")
	r = Resource(p[0])
	parts := 3
	switch r {
	case ResourcePods, ResourceConfigMaps, ResourceSecrets, ResourceClaims, ResourceServices, ResourceCertificates,
		ResourceDevices, ResourceDeviceModels:
	case ResourceVolumes, ResourceRuntimeClasses, ResourceServiceLinks, ResourceNodes, ResourceBundles:
		if len(p) != 2 || p[1] == "" {
			return "", "", "", "", false
		}
		return r, "", p[1], "", true
	case ResourceTokens:
		parts = 4
	default:
		return "", "", "", "", false
	}
	if len(p) != parts || slices.Contains(p, "") {
		return "", "", "", "", false
	}
	if parts == 4 {
		id = p[3]
	}
	return r, p[1], p[2], id, true
}
