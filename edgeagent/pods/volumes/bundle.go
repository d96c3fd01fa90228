package volumes

import (
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Bundles reads ClusterTrustBundles. Its errors for one that is not there wrap
// ErrNotFound.
type Bundles interface {
	ClusterTrustBundle(name string) (*certificatesv1.ClusterTrustBundle, error)
	// ClusterTrustBundles reads all that pods of this node show.
	ClusterTrustBundles() ([]*certificatesv1.ClusterTrustBundle, error)
}

type noBundles struct{}

func (noBundles) ClusterTrustBundle(string) (*certificatesv1.ClusterTrustBundle, error) {
	return nil, ErrNotFound
}

func (noBundles) ClusterTrustBundles() ([]*certificatesv1.ClusterTrustBundle, error) {
	return nil, nil
}

// ShowsBundles says whether a volume of the pod shows a trust bundle.
func ShowsBundles(pod *corev1.Pod) bool {
	return projects(pod, func(s *corev1.VolumeProjection) bool { return s.ClusterTrustBundle != nil })
}

// projects says whether a source of a projected volume of the pod is such.
func projects(pod *corev1.Pod, such func(*corev1.VolumeProjection) bool) bool {
	for i := range pod.Spec.Volumes {
		p := pod.Spec.Volumes[i].Projected
		for j := 0; p != nil && j < len(p.Sources); j++ {
			if such(&p.Sources[j]) {
				return true
			}
		}
	}
	return false
}

func (m *Manager) trustBundle(pod *corev1.Pod, src *corev1.ClusterTrustBundleProjection, def attributes) (files, error) {
	bundles, err := m.trustBundles(src)
	if err != nil {
		return nil, err
	}
	return files{path.Clean(src.Path): private(pod, anchors(bundles), def, src.User)}, nil
}

// trustBundles are those that a source shows. The words are the kubelet's.
func (m *Manager) trustBundles(src *corev1.ClusterTrustBundleProjection) ([]*certificatesv1.ClusterTrustBundle, error) {
	switch {
	case src.Name != nil:
		b, err := m.bundles.ClusterTrustBundle(*src.Name)
		switch {
		case errors.Is(err, ErrNotFound) && truth(src.Optional):
			return nil, nil
		case errors.Is(err, ErrNotFound):
			return nil, fmt.Errorf("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io %q not found", *src.Name)
		case err != nil:
			return nil, fmt.Errorf("while getting ClusterTrustBundle: %w", err)
		}
		return []*certificatesv1.ClusterTrustBundle{b}, nil
	case src.SignerName != nil:
		// None matches no selector, all an empty one.
		selector, err := metav1.LabelSelectorAsSelector(src.LabelSelector)
		if err != nil {
			return nil, fmt.Errorf("while parsing label selector: %w", err)
		}
		all, err := m.bundles.ClusterTrustBundles()
		if err != nil {
			return nil, fmt.Errorf("while listing ClusterTrustBundles: %w", err)
		}
		all = slices.DeleteFunc(all, func(b *certificatesv1.ClusterTrustBundle) bool {
			return b.Spec.SignerName != *src.SignerName || !selector.Matches(labels.Set(b.Labels))
		})
		if len(all) == 0 && !truth(src.Optional) {
			return nil, errors.New("combination of signerName and labelSelector matched zero ClusterTrustBundles")
		}
		return all, nil
	default:
		return nil, errors.New("ClusterTrustBundle projection requires either name or signerName to be set")
	}
}

// anchors gives the certificates of bundles, each once, and always in the same order:
// that of bundles means nothing.
func anchors(bundles []*certificatesv1.ClusterTrustBundle) []byte {
	set := map[string]bool{}
	for _, b := range bundles {
		for block, rest := pem.Decode([]byte(b.Spec.TrustBundle)); block != nil; block, rest = pem.Decode(rest) {
			set[string(block.Bytes)] = true
		}
	}
	out := []byte{}
	for _, der := range slices.Sorted(maps.Keys(set)) {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(der)})...)
	}
	return out
}
