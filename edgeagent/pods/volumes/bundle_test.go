package volumes

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/pods/downward"
)

// memBundles are trust bundles in memory.
type memBundles []*certificatesv1.ClusterTrustBundle

func (m memBundles) ClusterTrustBundle(name string) (*certificatesv1.ClusterTrustBundle, error) {
	for _, b := range m {
		if b.Name == name {
			return b, nil
		}
	}
	return nil, ErrNotFound
}

func (m memBundles) ClusterTrustBundles() ([]*certificatesv1.ClusterTrustBundle, error) {
	return append([]*certificatesv1.ClusterTrustBundle(nil), m...), nil
}

func block(text string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(text)}))
}

func bundleOf(name, signer string, labels map[string]string, pems ...string) *certificatesv1.ClusterTrustBundle {
	return &certificatesv1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: strings.Join(pems, "\n")},
	}
}

func TestTrustBundles(t *testing.T) {
	bundles := memBundles{
		bundleOf("plain", "", nil, "words before\n", block("b"), "words between", block("a"), block("b")),
		bundleOf("example.com:ca:1", "example.com/ca", map[string]string{"live": "1"}, block("c")),
		bundleOf("example.com:ca:2", "example.com/ca", map[string]string{"live": "2"}, block("a"), block("c")),
		bundleOf("example.com:other:1", "example.com/other", map[string]string{"live": "1"}, block("z")),
	}
	m, err := New(Config{StateDir: t.TempDir(), Objects: &memObjects{}, Bundles: bundles, Mounter: &fakeMounter{}})
	if err != nil {
		t.Fatal(err)
	}
	all := &metav1.LabelSelector{}
	live := func(v string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"live": v}}
	}
	for _, tt := range []struct {
		name      string
		src       corev1.ClusterTrustBundleProjection
		want, err string
	}{
		{"by name", corev1.ClusterTrustBundleProjection{Name: new("plain")}, block("a") + block("b"), ""},
		{"no such name", corev1.ClusterTrustBundleProjection{Name: new("none")}, "", `while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "none" not found`},
		{"no such name, optional", corev1.ClusterTrustBundleProjection{Name: new("none"), Optional: new(true)}, "", ""},
		{"by signer", corev1.ClusterTrustBundleProjection{SignerName: new("example.com/ca"), LabelSelector: all}, block("a") + block("c"), ""},
		{"by signer and label", corev1.ClusterTrustBundleProjection{SignerName: new("example.com/ca"), LabelSelector: live("1")}, block("c"), ""},
		{"no selector is none", corev1.ClusterTrustBundleProjection{SignerName: new("example.com/ca"), Optional: new(true)}, "", ""},
		{"no match", corev1.ClusterTrustBundleProjection{SignerName: new("example.com/ca"), LabelSelector: live("3")}, "", "combination of signerName and labelSelector matched zero ClusterTrustBundles"},
		{"neither", corev1.ClusterTrustBundleProjection{}, "", "ClusterTrustBundle projection requires either name or signerName to be set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.src.Path = "ca.pem"
			pod := podWith(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{ClusterTrustBundle: &tt.src}},
			}}})
			if !ShowsBundles(pod) {
				t.Error("the pod is taken for one that shows no bundle")
			}
			err := m.SetUp(pod, downward.Facts{})
			if tt.err != "" {
				if want := `MountVolume.SetUp failed for volume "v" : ` + tt.err; err == nil || err.Error() != want {
					t.Errorf("error %v, want %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(m.Path(pod, &pod.Spec.Volumes[0]), "ca.pem"))
			if err != nil || string(got) != tt.want {
				t.Errorf("%v, file is %q, want %q", err, got, tt.want)
			}
		})
	}
}
