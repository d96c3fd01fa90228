package volumes

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestHostPathTypes(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", at("s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Symlink("f", at("link")); err != nil {
		t.Fatal(err)
	}
	const failed = "hostPath type check failed"
	for _, tt := range []struct {
		kind corev1.HostPathType
		path string
		err  string // with PATH for the path
	}{
		{corev1.HostPathUnset, at("absent"), ""},
		{corev1.HostPathDirectory, dir, ""},
		{corev1.HostPathDirectory, at("f"), failed + ": PATH is not a directory, it's a File"},
		{corev1.HostPathDirectory, at("absent"), failed + `, PATH is not a directory, unable to determine its type: path "PATH" does not exist`},
		{corev1.HostPathDirectoryOrCreate, at("a/b"), ""},
		{corev1.HostPathDirectoryOrCreate, at("f"), failed + ": PATH is not a directory, it's a File"},
		{corev1.HostPathFile, at("f"), ""},
		{corev1.HostPathFile, at("link"), ""},
		{corev1.HostPathFile, dir, failed + ": PATH is not a file, it's a Directory"},
		{corev1.HostPathFile, at("pipe"), failed + ", PATH is not a file, unable to determine its type: only recognise file, directory, socket, block device and character device"},
		{corev1.HostPathFileOrCreate, at("new"), ""},
		{corev1.HostPathFileOrCreate, at("s"), failed + ": PATH is not a file, it's a Socket"},
		{corev1.HostPathSocket, at("s"), ""},
		{corev1.HostPathSocket, at("f"), failed + ": PATH is not a socket file, it's a File"},
		{corev1.HostPathCharDev, "/dev/null", ""},
		{corev1.HostPathBlockDev, "/dev/null", failed + ": PATH is not a block device, it's a CharDevice"},
		{"Odd", dir, "Odd is an invalid volume type"},
	} {
		err := setUpHostPath(&corev1.HostPathVolumeSource{Path: tt.path, Type: &tt.kind})
		want := strings.ReplaceAll(tt.err, "PATH", tt.path)
		if err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%q at %s: %v, want %s", tt.kind, tt.path, err, want)
		}
	}
}
