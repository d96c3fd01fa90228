package volumes

import (
	"errors"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Certificates keeps the keys of pods' certificates, and what signers made of them.
type Certificates interface {
	// Certificate gives what the source with that index of a projected volume of the pod
	// shows: a private key (PKCS#8) and the chain of its certificate, the leaf first, both
	// in PEM. What is on its way is an error that wraps ErrNotYet; a cluster that has no
	// such thing is an [UnsupportedError].
	Certificate(pod *corev1.Pod, volume string, source int) (key, chain []byte, err error)
	// Forget deletes the keys of a pod that does not need them any more.
	Forget(pod types.UID) error
	// Pods lists the pods of which there are keys, in no order.
	Pods() []types.UID
}

type noCertificates struct{}

func (noCertificates) Certificate(_ *corev1.Pod, volume string, _ int) (key, chain []byte, err error) {
	return nil, nil, &UnsupportedError{Volume: volume, Source: "podCertificate"}
}

func (noCertificates) Forget(types.UID) error { return nil }

func (noCertificates) Pods() []types.UID { return nil }

// ShowsCertificates says whether a volume of the pod shows a certificate that is made for it.
func ShowsCertificates(pod *corev1.Pod) bool {
	return projects(pod, func(s *corev1.VolumeProjection) bool { return s.PodCertificate != nil })
}

// certificate gives the files of one source: key and chain in one, or each in its own, as
// the pod wants. They are for who may read its tokens.
func (m *Manager) certificate(pod *corev1.Pod, volume string, source int, src *corev1.PodCertificateProjection, def attributes) (files, error) {
	key, chain, err := m.certificates.Certificate(pod, volume, source)
	if err != nil {
		return nil, err
	}
	out := files{}
	for to, data := range map[string][]byte{
		src.CredentialBundlePath: slices.Concat(key, chain),
		src.KeyPath:              key,
		src.CertificateChainPath: chain,
	} {
		if to != "" {
			out[path.Clean(to)] = private(pod, data, def, src.User)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("podCertificate projection names no file") // the API lets none in
	}
	return out, nil
}
