package desired

import (
	"errors"
	"fmt"
	"log/slog"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"

	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// metaSynced is set once the store has held all that the cloud wanted.
const metaSynced = "desired-synced"

// ErrNeverSynced says that the cloud has not told yet all that it wants of this
// edge: what the store lacks may still come.
var ErrNeverSynced = errors.New("the cloud has not told yet what is to run on this edge")

// annotationSource marks pods that are run from files of the machine, and only those
// may say so: they are told to nobody, and start first.
const annotationSource = "kubernetes.io/config.source"

// markSynced is told after each Synced and writes once.
func markSynced(s *store.Store) error {
	_, err := s.Meta(metaSynced)
	if errors.Is(err, store.ErrNotFound) {
		err = s.SetMeta(metaSynced, []byte{1})
	}
	return err
}

// Objects reads the desired state in its own types. It keeps nothing in memory:
// each call decodes what the store holds now.
type Objects struct {
	// Store is required.
	Store *store.Store
	// NotFound is what errors for absent objects wrap besides store.ErrNotFound, so
	// that callers can use a sentinel of their own. May be nil.
	NotFound error
	// Log may be nil, which discards.
	Log *slog.Logger
}

type unmarshaler interface {
	Unmarshal(b []byte) error
}

// Pod reads the pod under key, "pods/NAMESPACE/NAME". Its status is what the API
// said when the pod was sent, which may be long ago.
func (o *Objects) Pod(key string) (*corev1.Pod, error) {
	var pod corev1.Pod
	if err := o.read(key, &pod); err != nil {
		return nil, err
	}
	delete(pod.Annotations, annotationSource)
	return &pod, nil
}

// ConfigMap reads a ConfigMap that a pod of this edge names.
func (o *Objects) ConfigMap(namespace, name string) (*corev1.ConfigMap, error) {
	var cm corev1.ConfigMap
	if err := o.read(wire.ObjectKey(wire.ResourceConfigMaps, namespace, name), &cm); err != nil {
		return nil, err
	}
	return &cm, nil
}

// Secret reads a Secret that a pod of this edge names.
func (o *Objects) Secret(namespace, name string) (*corev1.Secret, error) {
	var s corev1.Secret
	if err := o.read(wire.ObjectKey(wire.ResourceSecrets, namespace, name), &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// Token reads the projected service account token of a pod; id is wire.TokenID.
func (o *Objects) Token(namespace, pod, id string) (*authenticationv1.TokenRequest, error) {
	var tr authenticationv1.TokenRequest
	if err := o.read(wire.TokenKey(namespace, pod, id), &tr); err != nil {
		return nil, err
	}
	return &tr, nil
}

// PersistentVolumeClaim reads a claim that a pod of this edge names.
func (o *Objects) PersistentVolumeClaim(namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	var c corev1.PersistentVolumeClaim
	if err := o.read(wire.ObjectKey(wire.ResourceClaims, namespace, name), &c); err != nil {
		return nil, err
	}
	return &c, nil
}

// PersistentVolume reads a volume that such a claim is bound to.
func (o *Objects) PersistentVolume(name string) (*corev1.PersistentVolume, error) {
	var v corev1.PersistentVolume
	if err := o.read(wire.ClusterKey(wire.ResourceVolumes, name), &v); err != nil {
		return nil, err
	}
	return &v, nil
}

// ClusterTrustBundle reads a trust bundle that a pod of this edge shows.
func (o *Objects) ClusterTrustBundle(name string) (*certificatesv1.ClusterTrustBundle, error) {
	var b certificatesv1.ClusterTrustBundle
	if err := o.read(wire.ClusterKey(wire.ResourceBundles, name), &b); err != nil {
		return nil, err
	}
	return &b, nil
}

// ClusterTrustBundles reads all trust bundles that pods of this edge show.
func (o *Objects) ClusterTrustBundles() ([]*certificatesv1.ClusterTrustBundle, error) {
	var all []*certificatesv1.ClusterTrustBundle
	var failed error
	err := o.Store.List(string(wire.ResourceBundles)+"/", func(obj store.Object) bool {
		b := &certificatesv1.ClusterTrustBundle{}
		if failed = b.Unmarshal(obj.Value); failed != nil {
			failed = fmt.Errorf("decode %s: %w", obj.Key, failed)
		}
		all = append(all, b)
		return failed == nil
	})
	return all, errors.Join(err, failed)
}

// PodCertificateRequest reads the answer to what was asked for a pod of this edge.
func (o *Objects) PodCertificateRequest(namespace, name string) (*certificatesv1.PodCertificateRequest, error) {
	var r certificatesv1.PodCertificateRequest
	if err := o.read(wire.ObjectKey(wire.ResourceCertificates, namespace, name), &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// TakesCertificateRequests says whether the cluster takes requests for certificates for
// the pods of this edge, whose name is node. The error is that of Node: nobody knows yet.
func (o *Objects) TakesCertificateRequests(node string) (bool, error) {
	n, err := o.Node(node)
	if err != nil {
		return false, err
	}
	return n.Annotations[wire.AnnotationCertificates] == "true", nil
}

// Node reads the Node of this edge, as far as it decides what may run here.
func (o *Objects) Node(name string) (*corev1.Node, error) {
	var n corev1.Node
	if err := o.read(wire.ClusterKey(wire.ResourceNodes, name), &n); err != nil {
		return nil, err
	}
	return &n, nil
}

// Service reads a service that pods of all namespaces are told of.
func (o *Objects) Service(namespace, name string) (*corev1.Service, error) {
	var s corev1.Service
	if err := o.read(wire.ObjectKey(wire.ResourceServices, namespace, name), &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// ServiceLinks reads the services that pods of a namespace are told of.
func (o *Objects) ServiceLinks(namespace string) (*corev1.ServiceList, error) {
	var l corev1.ServiceList
	if err := o.read(wire.ClusterKey(wire.ResourceServiceLinks, namespace), &l); err != nil {
		return nil, err
	}
	return &l, nil
}

// RuntimeHandler gives the runtime's handler of a RuntimeClass.
func (o *Objects) RuntimeHandler(class string) (string, error) {
	var c nodev1.RuntimeClass
	err := o.read(wire.ClusterKey(wire.ResourceRuntimeClasses, class), &c)
	if errors.Is(err, store.ErrNotFound) {
		return "", fmt.Errorf("runtimeclass %q not found: %w", class, err)
	}
	return c.Handler, err
}

// Pods reads all pods of this edge. One that can't be decoded is logged and left
// out: it must not keep the others from running. A store that was never complete,
// as after one that was damaged was moved away, gives ErrNeverSynced: a pod that
// it lacks may run here and is not to be taken for one that was deleted.
func (o *Objects) Pods() ([]*corev1.Pod, error) {
	if _, err := o.Store.Meta(metaSynced); errors.Is(err, store.ErrNotFound) {
		return nil, ErrNeverSynced
	} else if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var pods []*corev1.Pod
	err := o.Store.List(string(wire.ResourcePods)+"/", func(obj store.Object) bool {
		pod := &corev1.Pod{}
		if err := pod.Unmarshal(obj.Value); err != nil {
			o.log().Error("stored pod can't be decoded", "key", obj.Key, "error", err)
			return true
		}
		delete(pod.Annotations, annotationSource)
		pods = append(pods, pod)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return pods, nil
}

func (o *Objects) read(key string, into unmarshaler) error {
	obj, err := o.Store.Get(key)
	if errors.Is(err, store.ErrNotFound) && o.NotFound != nil {
		return fmt.Errorf("%w: %w", o.NotFound, err)
	}
	if err != nil {
		return err
	}
	if err := into.Unmarshal(obj.Value); err != nil {
		return fmt.Errorf("decode %s: %w", key, err)
	}
	return nil
}

func (o *Objects) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}
