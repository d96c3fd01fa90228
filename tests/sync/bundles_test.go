package sync

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	edgedesired "github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/store"
)

// TestTrustBundles: what pods show of a signer's bundles comes, changes and goes.
func TestTrustBundles(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, e *edge) {
		objects := edgedesired.Objects{Store: e.store}
		see := func(what string, want ...string) {
			t.Helper()
			wait(time.Second)
			var got []string
			if err := e.store.Versions("clustertrustbundles/", func(entry store.Entry) bool {
				got = append(got, strings.TrimPrefix(entry.Key, "clustertrustbundles/"))
				return true
			}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s (-want +got):\n%s", what, d)
			}
		}
		bundle := func(name, signer, live string) *certificatesv1.ClusterTrustBundle {
			b := &certificatesv1.ClusterTrustBundle{
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"live": live}},
				Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: name},
			}
			a.stamp(&b.ObjectMeta)
			return b
		}
		put := func(b *certificatesv1.ClusterTrustBundle) {
			t.Helper()
			if _, err := a.CertificatesV1().ClusterTrustBundles().Create(ctx, b, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		put(bundle("plain", "", "1"))
		put(bundle("other", "", "1"))
		put(bundle("a:ca:1", "a/ca", "1"))
		pod := testPod("web")
		pod.Spec.Volumes = []corev1.Volume{{Name: "ca", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: new("plain"), Path: "plain"}},
			{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{
				SignerName: new("a/ca"), LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"live": "1"}}, Path: "signer",
			}},
		}}}}}
		a.createPod(ctx, pod)
		see("first", "a:ca:1", "plain")
		put(bundle("a:ca:2", "a/ca", "1"))
		put(bundle("a:ca:3", "a/ca", "2"))
		put(bundle("b:ca:1", "b/ca", "1"))
		see("more", "a:ca:1", "a:ca:2", "plain")
		if _, err := a.CertificatesV1().ClusterTrustBundles().Update(ctx, bundle("a:ca:1", "a/ca", "2"), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		see("one has other labels", "a:ca:2", "plain")
		if err := a.CertificatesV1().ClusterTrustBundles().Delete(ctx, "plain", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		see("one is gone", "a:ca:2")
		all, err := objects.ClusterTrustBundles()
		if err != nil || !slices.ContainsFunc(all, func(b *certificatesv1.ClusterTrustBundle) bool { return b.Spec.TrustBundle == "a:ca:2" }) {
			t.Errorf("%v, %v", all, err)
		}
		l.reconnect(t, time.Second)
		if err := a.CoreV1().Pods("default").Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		see("nobody shows any")
	})
}
