package desired

import (
	"errors"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// errUnknownKey says that a key is of no resource that this build knows.
var errUnknownKey = errors.New("key is of no known resource")

// check says whether value is what key promises.
func check(key string, value []byte) error {
	resource, namespace, name, _, ok := wire.SplitKey(key)
	if !ok {
		return errUnknownKey
	}
	var gotNamespace, gotName string
	switch resource {
	case wire.ResourcePods:
		var o corev1.Pod
		if err := o.Unmarshal(value); err != nil {
			return fmt.Errorf("decode pod: %w", err)
		}
		gotNamespace, gotName = o.Namespace, o.Name
	case wire.ResourceConfigMaps:
		var o corev1.ConfigMap
		if err := o.Unmarshal(value); err != nil {
			return fmt.Errorf("decode configmap: %w", err)
		}
		gotNamespace, gotName = o.Namespace, o.Name
	case wire.ResourceSecrets:
		var o corev1.Secret
		if err := o.Unmarshal(value); err != nil {
			return fmt.Errorf("decode secret: %w", err)
		}
		gotNamespace, gotName = o.Namespace, o.Name
	case wire.ResourceTokens:
		var o authenticationv1.TokenRequest
		if err := o.Unmarshal(value); err != nil {
			return fmt.Errorf("decode token: %w", err)
		}
		return nil // its own metadata is the service account's
	}
	if gotNamespace != namespace || gotName != name {
		return fmt.Errorf("value is of %s/%s", gotNamespace, gotName)
	}
	return nil
}
