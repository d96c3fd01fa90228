package volumes

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/pods/downward"
)

func TestSubPath(t *testing.T) {
	m, fm := newManager(t, &memObjects{})
	pod := podWith(corev1.Volume{Name: "d", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: new(int64(os.Getgid()))}
	if err := m.SetUp(pod, downward.Facts{}); err != nil {
		t.Fatal(err)
	}
	v := &pod.Spec.Volumes[0]
	dir := m.Path(pod, v)
	inside := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(
		os.Symlink("/etc", inside("evil")), os.Symlink("../../..", inside("up")), os.Symlink("loop", inside("loop")),
		os.Symlink("/proc/self/root/etc", inside("magic")), os.Symlink("none", inside("dangling")),
		os.Mkdir(inside("dir"), 0o700), os.WriteFile(inside("dir/file"), nil, 0o600),
		os.Symlink("dir/file", inside("relative")), os.Symlink(inside("dir"), inside("absolute")),
		syscall.Mkfifo(inside("pipe"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	for sub, want := range map[string]string{
		"/abs":        "error SubPath `/abs` must not be an absolute path",
		"../up":       "unable to provision SubPath `../up`: must not contain '..'",
		"a/../../b":   "unable to provision SubPath `a/../../b`: must not contain '..'",
		"evil":        `failed to prepare subPath for volumeMount "d" of container "c"`,
		"evil/passwd": `failed to prepare subPath for volumeMount "d" of container "c"`,
		"evil/new":    `failed to`,
		"up":          `failed to prepare subPath for volumeMount "d" of container "c"`,
		"magic":       `failed to prepare subPath for volumeMount "d" of container "c"`,
		"loop":        `failed to prepare subPath for volumeMount "d" of container "c"`,
		"dir/file/x":  `failed to prepare subPath for volumeMount "d" of container "c"`,
		"dangling/x":  `failed to`,
	} {
		if p, err := m.SubPath(pod, v, "c", 0, sub); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("subPath %q gave %s, %v; want %s", sub, p, err, want)
		}
	}
	if _, err := os.Stat("/etc/new"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("made something outside of the volume")
	}
	// A pipe that nobody writes to holds nobody up.
	for _, sub := range []string{"relative", "absolute", "absolute/file", "dir", "pipe", ".", "b`q`"} {
		p, err := m.SubPath(pod, v, "c", 1, sub)
		if err != nil || !slices.Contains(fm.mounted, p) {
			t.Errorf("subPath %q: %q, %v; mounted %v", sub, p, err, fm.mounted)
		}
	}
	p, err := m.SubPath(pod, v, "c", 0, "made/here")
	if err != nil {
		t.Fatal(err)
	}
	for _, made := range []string{"made", "made/here"} {
		if info, err := os.Stat(inside(made)); err != nil || info.Mode() != fs.ModeDir|fs.ModeSetgid|0o777 {
			t.Errorf("%s not made like the volume: %v %v", made, info, err)
		}
	}
	if !slices.Contains(fm.mounted, p) {
		t.Errorf("nothing mounted at %s", p)
	}
}

// A hostPath volume can have its subPath be a socket, which can't be opened.
func TestSubPathOfASocket(t *testing.T) {
	m, fm := newManager(t, &memObjects{})
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pod := podWith(corev1.Volume{Name: "d", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}}})
	p, err := m.SubPath(pod, &pod.Spec.Volumes[0], "c", 0, "s")
	if err != nil || !slices.Contains(fm.mounted, p) {
		t.Errorf("%s, %v", p, err)
	}
}

// A container that swaps a directory for a link out of the volume, over and over,
// never has its subPath be what the link leads to.
func TestSubPathIsNotOutrun(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	names := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	if err := errors.Join(os.Mkdir(names[0], 0o755), os.Symlink(outside, names[1])); err != nil {
		t.Fatal(err)
	}
	var forbidden syscall.Stat_t
	if err := syscall.Stat(outside, &forbidden); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = exchange(names[0], names[1])
			}
		}
	}()
	opened := 0
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		f, err := openBeneath(dir, "a")
		if err != nil {
			continue
		}
		opened++
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Ino == forbidden.Ino && st.Dev == forbidden.Dev {
			t.Fatal("opened what lies outside of the volume")
		}
		_ = f.Close()
	}
	close(stop)
	<-stopped
	if opened == 0 {
		t.Error("never opened")
	}
}

// exchange swaps two names at once.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}
