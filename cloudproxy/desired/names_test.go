package desired

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/tunnel/wire"
)

func TestNames(t *testing.T) {
	seconds := int64(600)
	ref := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u"},
		Spec: corev1.PodSpec{
			ImagePullSecrets: []corev1.LocalObjectReference{ref("pull"), ref("")},
			InitContainers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("from-cm")}},
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("from-secret")}},
			}}},
			Containers: []corev1.Container{{Env: []corev1.EnvVar{
				{Name: "PLAIN", Value: "x"},
				{ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{}}},
				{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref("env-cm")}}},
				{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("env-secret")}}},
				{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("pull")}}},
			}}},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
				EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("debug")}}},
			}}},
			Volumes: []corev1.Volume{
				{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("vol-cm")}}},
				{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "vol-secret"}}},
				{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref("kube-root-ca.crt")}},
					{Secret: &corev1.SecretProjection{LocalObjectReference: ref("proj-secret")}},
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", ExpirationSeconds: &seconds}},
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}},
					{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: new("named")}},
					{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{SignerName: new("example.com:ca")}},
					{PodCertificate: &corev1.PodCertificateProjection{SignerName: "example.com/ca"}},
					{PodCertificate: &corev1.PodCertificateProjection{SignerName: "example.com/other"}},
				}}}},
			},
		},
	}
	short := wire.TokenKey("ns", "web", wire.TokenID("u", "vault", 600))
	plain := wire.TokenKey("ns", "web", wire.TokenID("u", "", 3600))
	want := []string{
		"secrets/ns/pull", "configmaps/ns/from-cm", "secrets/ns/from-secret", "configmaps/ns/env-cm", "secrets/ns/env-secret",
		"configmaps/ns/debug", "servicelinks/ns", "services/default/kubernetes", "configmaps/ns/vol-cm", "secrets/ns/vol-secret", "configmaps/ns/kube-root-ca.crt",
		"secrets/ns/proj-secret", short, plain,
		"clustertrustbundles/named", "signers/example.com:ca", "clustertrustbundles/example.com:ca:1",
		"podcertificaterequests/ns/answer-to-u",
	}
	keys, tokens := names(pod, noCaches{})
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	wantTokens := map[string]tokenSpec{short: {"vault", 600}, plain: {"", 3600}}
	if diff := cmp.Diff(wantTokens, tokens, cmp.AllowUnexported(tokenSpec{})); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
	pod.Spec.EnableServiceLinks = new(false)
	if keys, _ := names(pod, noCaches{}); slices.Contains(keys, "servicelinks/ns") || !slices.Contains(keys, "services/default/kubernetes") {
		t.Errorf("a pod without links names %v", keys)
	}
	pod.Status.Phase = corev1.PodFailed
	if keys, tokens := names(pod, noCaches{}); len(keys)+len(tokens) != 0 {
		t.Errorf("finished pod names %v", keys)
	}
}

func TestPodVersion(t *testing.T) {
	grace := int64(30)
	base := func() *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "ns", Name: "web", UID: "u", ResourceVersion: "1",
				Labels: map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"},
			},
			Spec: corev1.PodSpec{NodeName: "e1", ReadinessGates: []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}}},
		}
	}
	first, err := podVersion(base())
	if err != nil {
		t.Fatal(err)
	}
	if versionUID(first) != "u" {
		t.Errorf("version %q does not begin with the UID", first)
	}
	now := metav1.Now()
	tests := []struct {
		name    string
		change  func(*corev1.Pod)
		changed bool
	}{
		{"nothing", func(*corev1.Pod) {}, false},
		{"status", func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }, false},
		{"resourceVersion", func(p *corev1.Pod) { p.ResourceVersion = "2" }, false},
		{"managedFields", func(p *corev1.Pod) { p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}} }, false},
		{"deletion", func(p *corev1.Pod) { p.DeletionTimestamp = &now }, true},
		{"grace", func(p *corev1.Pod) { p.DeletionGracePeriodSeconds = &grace }, true},
		{"label", func(p *corev1.Pod) { p.Labels["a"] = "2" }, true},
		{"annotation", func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "2"} }, true},
		{"image", func(p *corev1.Pod) { p.Spec.Containers = []corev1.Container{{Image: "x"}} }, true},
		{"UID", func(p *corev1.Pod) { p.UID = "v" }, true},
		{"condition", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: "example.com/other", Status: corev1.ConditionTrue}}
		}, false},
		{"readiness gate", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: "example.com/gate", Status: corev1.ConditionTrue}}
		}, true},
	}
	for _, tt := range tests {
		pod := base()
		tt.change(pod)
		got, err := podVersion(pod)
		if err != nil {
			t.Fatal(err)
		}
		if (got != first) != tt.changed {
			t.Errorf("%s: version %q, before %q", tt.name, got, first)
		}
	}
}

func TestWanted(t *testing.T) {
	now, zero, some := metav1.Now(), int64(0), int64(30)
	tests := []struct {
		name string
		pod  *corev1.Pod
		want bool
	}{
		{"none", nil, false},
		{"elsewhere", &corev1.Pod{Spec: corev1.PodSpec{NodeName: "e2"}}, false},
		{"here", &corev1.Pod{Spec: corev1.PodSpec{NodeName: "e1"}}, true},
		{"being deleted", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now, DeletionGracePeriodSeconds: &some}, Spec: corev1.PodSpec{NodeName: "e1"}}, true},
		{"killed at once", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now, DeletionGracePeriodSeconds: &zero}, Spec: corev1.PodSpec{NodeName: "e1"}}, true},
		{"held by a finalizer", &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now, DeletionGracePeriodSeconds: &zero},
			Spec:       corev1.PodSpec{NodeName: "e1"}, Status: corev1.PodStatus{Phase: corev1.PodSucceeded},
		}, false},
	}
	for _, tt := range tests {
		if got := wanted(tt.pod, "e1"); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// noCaches has one bundle of each signer.
type noCaches struct{}

func (noCaches) claim(string, string) *corev1.PersistentVolumeClaim { return nil }

func (noCaches) answers(pod types.UID) []string { return []string{"answer-to-" + string(pod)} }

func (noCaches) bundles(signer string, _ *metav1.LabelSelector) []string {
	return []string{signer + ":1"}
}
