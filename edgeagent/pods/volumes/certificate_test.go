package volumes

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/downward"
)

// memCertificates has one for the source 1 of each volume.
type memCertificates struct {
	key, chain string
	err        error
	forgotten  []types.UID
	failed     error
}

func (m *memCertificates) Certificate(_ *corev1.Pod, _ string, source int) (key, chain []byte, err error) {
	if source != 1 {
		return nil, nil, errors.New("no such source")
	}
	return []byte(m.key), []byte(m.chain), m.err
}

func (m *memCertificates) Forget(pod types.UID) error {
	m.forgotten = append(m.forgotten, pod)
	return m.failed
}

func (m *memCertificates) Pods() []types.UID { return []types.UID{"known", "lost"} }

// TestPodsWithKeys: a pod is known by its directory or by its keys, whichever is left.
func TestPodsWithKeys(t *testing.T) {
	m, err := New(Config{StateDir: t.TempDir(), Objects: &memObjects{}, Certificates: &memCertificates{}, Mounter: &fakeMounter{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, uid := range []types.UID{"known", "plain"} {
		if err := os.MkdirAll(m.PodDir(uid), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	got, err := m.Pods()
	slices.Sort(got)
	if d := cmp.Diff([]types.UID{"known", "lost", "plain"}, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

func TestCertificates(t *testing.T) {
	issued := &memCertificates{key: "key\n", chain: "chain\n"}
	m, err := New(Config{StateDir: t.TempDir(), Objects: &memObjects{}, Certificates: issued, Mounter: &fakeMounter{}})
	if err != nil {
		t.Fatal(err)
	}
	self := int64(os.Getuid())
	for _, tt := range []struct {
		name        string
		src         corev1.PodCertificateProjection
		user, group *int64
		text, modes map[string]string
	}{
		{"bundle", corev1.PodCertificateProjection{CredentialBundlePath: "a/bundle.pem"}, nil, nil, map[string]string{"a/bundle.pem": "key\nchain\n"}, map[string]string{"a/bundle.pem": "640"}},
		{
			"apart",
			corev1.PodCertificateProjection{KeyPath: "key.pem", CertificateChainPath: "chain.pem"},
			nil, nil,
			map[string]string{"key.pem": "key\n", "chain.pem": "chain\n"},
			map[string]string{"key.pem": "640", "chain.pem": "640"},
		},
		{"one user", corev1.PodCertificateProjection{KeyPath: "key.pem"}, &self, nil, map[string]string{"key.pem": "key\n"}, map[string]string{"key.pem": "600"}},
		{"its own user", corev1.PodCertificateProjection{KeyPath: "key.pem", User: &self}, nil, nil, map[string]string{"key.pem": "key\n"}, map[string]string{"key.pem": "600"}},
		{"a group", corev1.PodCertificateProjection{KeyPath: "key.pem"}, nil, new(int64(os.Getgid())), map[string]string{"key.pem": "key\n"}, map[string]string{"key.pem": "640"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := podWith(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				DefaultMode: new(int32(0o640)),
				Sources:     []corev1.VolumeProjection{{DownwardAPI: &corev1.DownwardAPIProjection{}}, {PodCertificate: &tt.src}},
			}}})
			pod.UID = types.UID(tt.name)
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: tt.user, FSGroup: tt.group}
			if !ShowsCertificates(pod) || ShowsBundles(pod) {
				t.Error("the pod is taken for one that shows no certificate, or a bundle")
			}
			if err := m.SetUp(pod, downward.Facts{}); err != nil {
				t.Fatal(err)
			}
			text, modes := content(t, m.Path(pod, &pod.Spec.Volumes[0]))
			if d := cmp.Diff(tt.text, text); d != "" {
				t.Errorf("files (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.modes, modes); d != "" {
				t.Errorf("modes (-want +got):\n%s", d)
			}
		})
	}
}

// TestCertificateComesLater: a volume that lacks its certificate is not made, one that has
// it keeps it, and a pod that is gone is forgotten before its directory is.
func TestCertificateComesLater(t *testing.T) {
	issued := &memCertificates{key: "k", chain: "c", err: ErrNotYet}
	m, err := New(Config{StateDir: t.TempDir(), Objects: &memObjects{}, Certificates: issued, Mounter: &fakeMounter{}})
	if err != nil {
		t.Fatal(err)
	}
	pod := podWith(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{DownwardAPI: &corev1.DownwardAPIProjection{}}, {PodCertificate: &corev1.PodCertificateProjection{CredentialBundlePath: "b"}},
	}}}})
	dir := m.Path(pod, &pod.Spec.Volumes[0])
	if err := m.SetUp(pod, downward.Facts{}); !errors.Is(err, ErrNotYet) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("half of a volume is there")
	}
	issued.err = nil
	if err := m.SetUp(pod, downward.Facts{}); err != nil {
		t.Fatal(err)
	}
	issued.key, issued.err = "other", errors.New("denied")
	if err := m.Refresh(pod, downward.Facts{}); err == nil {
		t.Error("a refresh without a certificate works")
	}
	if text, _ := content(t, dir); text["b"] != "kc" {
		t.Errorf("the volume shows %q", text)
	}
	issued.err = nil
	if err := m.Refresh(pod, downward.Facts{}); err != nil {
		t.Fatal(err)
	}
	if text, _ := content(t, dir); text["b"] != "otherc" {
		t.Errorf("the volume shows %q", text)
	}
	issued.failed = errors.New("disk is full")
	if err := m.TearDown(pod.UID); err == nil {
		t.Error("torn down with its keys left")
	}
	if _, err := os.Stat(m.PodDir(pod.UID)); err != nil {
		t.Errorf("nothing is left by which the keys could be found: %v", err)
	}
	issued.failed = nil
	if err := errors.Join(m.Release(pod.UID), m.TearDown(pod.UID)); err != nil {
		t.Error(err)
	}
	if len(issued.forgotten) != 3 || issued.forgotten[2] != pod.UID {
		t.Errorf("forgotten: %v", issued.forgotten)
	}
	none, _ := newManager(t, &memObjects{})
	if _, ok := errors.AsType[*UnsupportedError](none.SetUp(pod, downward.Facts{})); !ok {
		t.Error("an agent without certificates has them")
	}
}
