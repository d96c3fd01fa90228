package desired

import (
	"encoding/json"
	"errors"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// errUnknownKey says that a key is of no resource that this build knows.
var errUnknownKey = errors.New("key is of no known resource")

// check says whether value is what key promises, and gives its resourceVersion.
func check(key string, value []byte) (resourceVersion string, err error) {
	resource, namespace, name, _, ok := wire.SplitKey(key)
	if !ok {
		return "", errUnknownKey
	}
	if resource == wire.ResourceDevices || resource == wire.ResourceDeviceModels {
		return checkJSON(namespace, name, value)
	}
	o, kind := empty(resource)
	if o == nil {
		return "", errUnknownKey
	}
	if err := o.Unmarshal(value); err != nil {
		return "", fmt.Errorf("decode %s: %w", kind, err)
	}
	meta, ok := o.(metav1.Object)
	if !ok || resource == wire.ResourceTokens { // of which the metadata is the service account's
		return "", nil
	}
	if meta.GetNamespace() != namespace || meta.GetName() != name {
		return "", fmt.Errorf("value is of %s/%s", meta.GetNamespace(), meta.GetName())
	}
	return meta.GetResourceVersion(), nil
}

// checkJSON is check for objects of definitions, which have no protobuf.
func checkJSON(namespace, name string, value []byte) (resourceVersion string, err error) {
	var o metav1.PartialObjectMetadata
	if err := json.Unmarshal(value, &o); err != nil {
		return "", fmt.Errorf("decode object: %w", err)
	}
	if o.Namespace != namespace || o.Name != name {
		return "", fmt.Errorf("value is of %s/%s", o.Namespace, o.Name)
	}
	return o.ResourceVersion, nil
}

// empty gives what values of a resource are decoded into, and its name in errors.
func empty(r wire.Resource) (unmarshaler, string) { //nolint:ireturn // one of many
	switch r {
	case wire.ResourcePods:
		return &corev1.Pod{}, "pod"
	case wire.ResourceConfigMaps:
		return &corev1.ConfigMap{}, "configmap"
	case wire.ResourceSecrets:
		return &corev1.Secret{}, "secret"
	case wire.ResourceClaims:
		return &corev1.PersistentVolumeClaim{}, "persistentvolumeclaim"
	case wire.ResourceVolumes:
		return &corev1.PersistentVolume{}, "persistentvolume"
	case wire.ResourceRuntimeClasses:
		return &nodev1.RuntimeClass{}, "runtimeclass"
	case wire.ResourceBundles:
		return &certificatesv1.ClusterTrustBundle{}, "clustertrustbundle"
	case wire.ResourceCertificates:
		return &certificatesv1.PodCertificateRequest{}, "podcertificaterequest"
	case wire.ResourceNodes:
		return &corev1.Node{}, "node"
	case wire.ResourceServices:
		return &corev1.Service{}, "service"
	case wire.ResourceServiceLinks:
		return &corev1.ServiceList{}, "services"
	case wire.ResourceTokens:
		return &authenticationv1.TokenRequest{}, "token"
	default:
		return nil, ""
	}
}
