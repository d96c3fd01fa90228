package volumes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// TestEnvFile reads files of variables; what is none is not opened, for a container makes
// devices too.
func TestEnvFile(t *testing.T) {
	m, _ := newManager(t, &memObjects{})
	pod := podWith(corev1.Volume{Name: "d", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	v := &pod.Spec.Volumes[0]
	dir := m.Path(pod, v)
	mustDo(
		t, os.MkdirAll(filepath.Join(dir, "sub"), 0o700), os.WriteFile(filepath.Join(dir, "sub", "vars"), []byte("A='1'"), 0o600),
		os.Symlink("/sub/vars", filepath.Join(dir, "link")), os.Symlink("/etc/passwd", filepath.Join(dir, "out")),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600), os.WriteFile(filepath.Join(dir, "large"), make([]byte, maxEnvFile+1), 0o600),
	)
	for path, want := range map[string]string{"sub/vars": "", "link": "", "out": "no such file", "pipe": "no regular file", "sub": "no regular file", "large": "no regular file", "none": "no such file"} {
		b, err := m.EnvFile(pod, v, path)
		if want == "" && (err != nil || string(b) != "A='1'") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %q, %v, want %q", path, b, err, want)
		}
	}
}
