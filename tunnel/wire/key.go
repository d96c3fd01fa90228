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
)

// ObjectKey gives the key of an object of a pod, ConfigMap or Secret.
func ObjectKey(r Resource, namespace, name string) string {
	return string(r) + "/" + namespace + "/" + name
}

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

// SplitKey takes a key apart. For a token name is the pod's and id the token's;
// else id is empty. A resource that this build does not know is not ok.
func SplitKey(key string) (r Resource, namespace, name, id string, ok bool) {
	p := strings.Split(key, "/")
	r = Resource(p[0])
	parts := 3
	switch r {
	case ResourcePods, ResourceConfigMaps, ResourceSecrets:
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
