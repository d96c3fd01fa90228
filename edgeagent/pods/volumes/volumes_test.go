package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/pods/downward"
	"github.com/skerry-io/skerry/tunnel/wire"
)

type memObjects struct {
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
	tokens     map[string]string
}

func (o *memObjects) ConfigMap(ns, name string) (*corev1.ConfigMap, error) {
	if cm := o.configMaps[ns+"/"+name]; cm != nil {
		return cm, nil
	}
	return nil, fmt.Errorf("configmaps/%s/%s: %w", ns, name, ErrNotFound)
}

func (o *memObjects) Secret(ns, name string) (*corev1.Secret, error) {
	if s := o.secrets[ns+"/"+name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("secrets/%s/%s: %w", ns, name, ErrNotFound)
}

func (o *memObjects) Token(_, _, id string) (*authenticationv1.TokenRequest, error) {
	if t, ok := o.tokens[id]; ok {
		return &authenticationv1.TokenRequest{Status: authenticationv1.TokenRequestStatus{Token: t}}, nil
	}
	return nil, ErrNotFound
}

// fakeMounter remembers mounts instead of making them, so that the tests need
// no privilege.
type fakeMounter struct{ mounted []string }

func (m *fakeMounter) Memory(dir string, _ MemoryFS) error {
	if !slices.Contains(m.mounted, dir) {
		m.mounted = append(m.mounted, dir)
	}
	return nil
}

func (m *fakeMounter) Bind(_ *os.File, target string) error {
	m.mounted = append(m.mounted, target)
	return nil
}

func (m *fakeMounter) Unmount(path string) error {
	m.mounted = slices.DeleteFunc(m.mounted, func(p string) bool { return p == path })
	return nil
}

func (m *fakeMounter) Mounts(dir string) ([]string, error) {
	var out []string
	for _, p := range m.mounted {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			out = append(out, p)
		}
	}
	return out, nil
}

func newManager(t *testing.T, o *memObjects) (*Manager, *fakeMounter) {
	t.Helper()
	fm := &fakeMounter{}
	m, err := New(Config{StateDir: t.TempDir(), Objects: o, Mounter: fm})
	if err != nil {
		t.Fatal(err)
	}
	return m, fm
}

func podWith(vols ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "uid-1", Labels: map[string]string{"app": "x"}},
		Spec:       corev1.PodSpec{Volumes: vols, Containers: []corev1.Container{{Name: "c"}}},
	}
}

// content reads what a container would see: name -> text, and modes of the files.
func content(t *testing.T, dir string) (text, modes map[string]string) {
	t.Helper()
	text, modes = map[string]string{}, map[string]string{}
	root := filepath.Join(dir, dataLink)
	target, err := filepath.EvalSymlinks(root)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(target, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(target, p)
		b, err := os.ReadFile(filepath.Join(dir, rel)) // through the visible link
		if err != nil {
			return err
		}
		info, _ := d.Info()
		text[rel], modes[rel] = string(b), fmt.Sprintf("%o", info.Mode().Perm())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text, modes
}

func TestPayloadVolumes(t *testing.T) {
	objects := &memObjects{
		configMaps: map[string]*corev1.ConfigMap{"ns/cm": {
			Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"bin": {0, 255}},
		}},
		secrets: map[string]*corev1.Secret{"ns/s": {Data: map[string][]byte{"k": []byte("v")}}},
		tokens:  map[string]string{wire.TokenID("uid-1", "aud", 600): "tok"},
	}
	cmRef := func(items ...corev1.KeyToPath) *corev1.ConfigMapVolumeSource {
		return &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, Items: items}
	}
	for _, tt := range []struct {
		name        string
		src         corev1.VolumeSource
		text, modes map[string]string
		err         string
	}{
		{
			name: "all keys", src: corev1.VolumeSource{ConfigMap: cmRef()},
			text:  map[string]string{"a": "1", "b": "2", "bin": "\x00\xff"},
			modes: map[string]string{"a": "644", "b": "644", "bin": "644"},
		},
		{
			name:  "items with path and mode",
			src:   corev1.VolumeSource{ConfigMap: cmRef(corev1.KeyToPath{Key: "a", Path: "dir/sub/a.txt", Mode: new(int32(0o400))})},
			text:  map[string]string{"dir/sub/a.txt": "1"},
			modes: map[string]string{"dir/sub/a.txt": "400"},
		},
		{name: "absent key", src: corev1.VolumeSource{ConfigMap: cmRef(corev1.KeyToPath{Key: "z", Path: "z"})}, err: "references non-existent config key: z"},
		{name: "escape", src: corev1.VolumeSource{ConfigMap: cmRef(corev1.KeyToPath{Key: "a", Path: "../a"})}, err: "invalid path"},
		{
			name: "absent object", err: `configmap "gone" not found`,
			src: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "gone"}}},
		},
		{
			name: "absent but optional", text: map[string]string{}, modes: map[string]string{},
			src: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "gone", Optional: new(true)}},
		},
		{
			name: "secret", text: map[string]string{"k": "v"}, modes: map[string]string{"k": "600"},
			src: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: new(int32(0o600))}},
		},
		{
			name: "downward", text: map[string]string{"labels": `app="x"`, "cpu": "4"}, modes: map[string]string{"labels": "644", "cpu": "644"},
			src: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
				{Path: "cpu", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "c", Resource: "limits.cpu"}},
			}}},
		},
		{
			name: "projected", text: map[string]string{"token": "tok", "a": "1"}, modes: map[string]string{"token": "644", "a": "644"},
			src: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "aud", ExpirationSeconds: new(int64(600)), Path: "token"}},
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, Items: []corev1.KeyToPath{{Key: "a", Path: "a"}}}},
			}}},
		},
		{
			name: "token not there", err: "has not arrived yet",
			src: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "other", Path: "token"}},
			}}},
		},
		{name: "unsupported", src: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}, err: "nfs volumes are not supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, _ := newManager(t, objects)
			pod := podWith(corev1.Volume{Name: "v", VolumeSource: tt.src})
			facts := downward.Facts{Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}}
			err := m.SetUp(pod, facts)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text, modes := content(t, m.Path(pod, &pod.Spec.Volumes[0]))
			if d := cmp.Diff(tt.text, text); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(tt.modes, modes); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRefreshSwapsAtOnce(t *testing.T) {
	cm := &corev1.ConfigMap{Data: map[string]string{"a": "1", "old": "x"}}
	m, _ := newManager(t, &memObjects{configMaps: map[string]*corev1.ConfigMap{"ns/cm": cm}})
	pod := podWith(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}},
	}})
	if err := m.SetUp(pod, downward.Facts{}); err != nil {
		t.Fatal(err)
	}
	dir := m.Path(pod, &pod.Spec.Volumes[0])
	first, _ := os.Readlink(filepath.Join(dir, dataLink))
	if err := m.Refresh(pod, downward.Facts{}); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.Readlink(filepath.Join(dir, dataLink)); again != first {
		t.Error("swapped although nothing changed")
	}
	cm.Data = map[string]string{"a": "2", "new": "y"}
	// What a kill -9 in the middle of a write leaves behind.
	if err := os.Mkdir(filepath.Join(dir, "..2020_01_01_00_00_00.1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, dataLinkTmp)); err != nil {
		t.Fatal(err)
	}
	if err := m.Refresh(pod, downward.Facts{}); err != nil {
		t.Fatal(err)
	}
	text, _ := content(t, dir)
	if d := cmp.Diff(map[string]string{"a": "2", "new": "y"}, text); d != "" {
		t.Error(d)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 4 { // ..data, one tree, a, new
		t.Errorf("left over: %v", entries)
	}
}

func TestEmptyDirSurvivesRestart(t *testing.T) {
	m, fm := newManager(t, &memObjects{})
	pod := podWith(
		corev1.Volume{Name: "d", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		corev1.Volume{Name: "m", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
	)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: new(int64(os.Getgid()))}
	if err := m.SetUp(pod, downward.Facts{}); err != nil {
		t.Fatal(err)
	}
	dir := m.Path(pod, &pod.Spec.Volumes[0])
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o777 || info.Mode()&fs.ModeSetgid == 0 {
		t.Errorf("mode %v, want 0777 with setgid", info.Mode())
	}
	if err := os.WriteFile(filepath.Join(dir, "data"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What a container makes of the root gives no reason to go through all below it.
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(dir, -1, 4242); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.SetUp(pod, downward.Facts{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "data")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("data was touched: %v %v", info, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the root was touched: %v %v", info, err)
	}
	if len(fm.mounted) != 1 {
		t.Errorf("mounts %v, want the tmpfs only", fm.mounted)
	}
	if err := m.TearDown(pod.UID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.PodDir(pod.UID)); !errors.Is(err, fs.ErrNotExist) || len(fm.mounted) != 0 {
		t.Errorf("left over: %v %v", err, fm.mounted)
	}
}

// lookingMounter looks at a directory when it is mounted on.
type lookingMounter struct {
	fakeMounter
	mode fs.FileMode
	fs   MemoryFS
}

func (m *lookingMounter) Memory(dir string, t MemoryFS) error {
	m.fs = t
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	m.mode = info.Mode().Perm()
	return m.fakeMounter.Memory(dir, t)
}

func TestEmptyDirHasItsModeFromTheStart(t *testing.T) {
	lm := &lookingMounter{}
	m, err := New(Config{StateDir: t.TempDir(), Objects: &memObjects{}, Mounter: lm})
	if err != nil {
		t.Fatal(err)
	}
	pod := podWith(corev1.Volume{Name: "m", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}})
	// What an agent that was killed has left.
	if err := os.MkdirAll(filepath.Join(filepath.Dir(m.Path(pod, &pod.Spec.Volumes[0])), "..new"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := m.SetUp(pod, downward.Facts{}); err != nil {
		t.Fatal(err)
	}
	if lm.mode != 0o777 || lm.fs.Mode != 0o777 || lm.fs.Group != nil {
		t.Errorf("mode %v, mounted with %+v, want 0777 for both", lm.mode, lm.fs)
	}
}

func TestMountsBelowALinkedStateDir(t *testing.T) {
	parent := t.TempDir()
	target, link := filepath.Join(parent, "target"), filepath.Join(parent, "link")
	if err := errors.Join(os.Mkdir(target, 0o700), os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	sm := &stuckMounter{}
	m, err := New(Config{StateDir: link, Objects: &memObjects{}, Mounter: sm})
	if err != nil {
		t.Fatal(err)
	}
	// The kernel lists mounts by their real names.
	precious := filepath.Join(target, "pods/u/volume-subpaths/v/c/0/precious")
	if err := os.MkdirAll(precious, 0o755); err != nil {
		t.Fatal(err)
	}
	sm.mounted = []string{filepath.Dir(precious)}
	if err := m.TearDown("u"); err == nil {
		t.Error("no error while something is mounted")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error("deleted through a mount")
	}
}

// stuckMounter cannot unmount.
type stuckMounter struct{ fakeMounter }

func (m *stuckMounter) Unmount(string) error { return nil }

func TestTearDownKeepsMountedData(t *testing.T) {
	dir := t.TempDir()
	sm := &stuckMounter{}
	m, err := New(Config{StateDir: dir, Objects: &memObjects{}, Mounter: sm})
	if err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(m.PodDir("u"), "volume-subpaths/v/c/0/precious")
	if err := os.MkdirAll(precious, 0o755); err != nil {
		t.Fatal(err)
	}
	sm.mounted = []string{filepath.Dir(precious)}
	if err := m.TearDown("u"); err == nil {
		t.Fatal("no error while something is mounted")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Fatal("deleted through a mount")
	}
}
