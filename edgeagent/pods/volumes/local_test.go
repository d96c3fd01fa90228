package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// localDir is a volume with a file that its group can't write, and a link out of it.
func localDir(t *testing.T) (local Local, file, outside string) {
	t.Helper()
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	file = filepath.Join(dir, "sub", "data")
	if err := errors.Join(
		os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600), os.Chmod(dir, 0o700),
		os.WriteFile(out, nil, 0o600), os.Symlink(out, filepath.Join(dir, "link")),
	); err != nil {
		t.Fatal(err)
	}
	return Local{Name: "pv", Path: dir}, file, out
}

func modeOf(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

func grouped(uid types.UID, group *int64, policy corev1.PodFSGroupChangePolicy) *corev1.Pod {
	pod := podWith()
	pod.UID = uid
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: group}
	if policy != "" {
		pod.Spec.SecurityContext.FSGroupChangePolicy = &policy
	}
	return pod
}

func TestSetUpLocal(t *testing.T) {
	ours := int64(os.Getgid())
	for name, tt := range map[string]struct {
		group   *int64
		policy  corev1.PodFSGroupChangePolicy
		root    fs.FileMode // what the volume's directory is already
		changed bool
	}{
		"no fsGroup":                    {nil, "", 0o700, false},
		"fsGroup":                       {&ours, "", 0o700, true},
		"always":                        {&ours, corev1.FSGroupChangeAlways, 0o770 | fs.ModeSetgid, true},
		"on mismatch, mode":             {&ours, corev1.FSGroupChangeOnRootMismatch, 0o700, true},
		"on mismatch, no setgid":        {&ours, corev1.FSGroupChangeOnRootMismatch, 0o775, true},
		"on mismatch, nothing to do":    {&ours, corev1.FSGroupChangeOnRootMismatch, 0o770 | fs.ModeSetgid, false},
		"on mismatch, more than needed": {&ours, corev1.FSGroupChangeOnRootMismatch, 0o775 | fs.ModeSetgid, false},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := newManager(t, &memObjects{})
			local, file, outside := localDir(t)
			if err := os.Chmod(local.Path, tt.root); err != nil {
				t.Fatal(err)
			}
			pod := grouped("a", tt.group, tt.policy)
			if w, err := m.SetUpLocal(t.Context(), pod, local); w != "" || err != nil {
				t.Fatal(w, err)
			}
			want := map[bool]fs.FileMode{false: 0o600, true: 0o660}[tt.changed]
			if got := modeOf(t, file); got != want {
				t.Errorf("file has mode %v, want %v", got, want)
			}
			if got := modeOf(t, outside); got != 0o600 {
				t.Errorf("what a link leads to has mode %v", got)
			}
			if got := modeOf(t, local.Path); tt.changed && got&(0o770|fs.ModeSetgid) != 0o770|fs.ModeSetgid {
				t.Errorf("directory has mode %v", got)
			}
			// Once a pod: what it makes of its files stays over a restart of the agent.
			if err := os.Chmod(file, 0o400); err != nil {
				t.Fatal(err)
			}
			again, err := New(Config{StateDir: filepath.Dir(m.root), Objects: &memObjects{}, Mounter: &fakeMounter{}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := again.SetUpLocal(t.Context(), pod, local); err != nil || modeOf(t, file) != 0o400 {
				t.Errorf("after a restart: mode %v, %v", modeOf(t, file), err)
			}
		})
	}
}

// A volume that another pod uses keeps its group; a boot or the end of that pod ends it.
func TestSetUpLocalShared(t *testing.T) {
	m, _ := newManager(t, &memObjects{})
	local, file, _ := localDir(t)
	ours := int64(os.Getgid())
	other := ours + 1
	step := func(name string, pod *corev1.Pod, warning string, mode fs.FileMode) {
		t.Helper()
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := m.SetUpLocal(t.Context(), pod, local)
		if err != nil || w != warning || modeOf(t, file) != mode {
			t.Errorf("%s: warning %q, mode %v, %v; want %q, %v", name, w, modeOf(t, file), err, warning, mode)
		}
	}
	step("first", grouped("a", &ours, ""), "", 0o660)
	step("second", grouped("b", &ours, ""), "", 0o600)
	step("another group", grouped("c", &other, ""),
		fmt.Sprintf("The requested fsGroup is %d, but the volume pv has GID %d. The volume may not be shareable.", other, ours), 0o600)
	for _, uid := range []types.UID{"a", "b", "c"} {
		if err := m.Release(uid); err != nil {
			t.Fatal(err)
		}
	}
	step("after they have ended", grouped("d", &ours, ""), "", 0o660)
	m.bootFile = filepath.Join(t.TempDir(), "boot")
	if err := os.WriteFile(m.bootFile, []byte("next\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	step("after a boot", grouped("d", &ours, ""), "", 0o660)
}

func TestSetUpLocalRefuses(t *testing.T) {
	m, _ := newManager(t, &memObjects{})
	local, _, _ := localDir(t)
	ours := int64(os.Getgid())
	if _, err := m.SetUpLocal(t.Context(), grouped("a", &ours, ""), Local{Name: "../x", Path: local.Path}); err == nil || !strings.Contains(err.Error(), "invalid name") {
		t.Errorf("a name that leads out: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.SetUpLocal(ctx, grouped("a", &ours, ""), local); !errors.Is(err, context.Canceled) {
		t.Errorf("a pod that goes: %v", err)
	}
	if w, err := m.SetUpLocal(t.Context(), grouped("b", &ours, ""), local); w != "" || err != nil || modeOf(t, local.Path)&0o770 != 0o770 {
		t.Errorf("one that was not finished counts as used: %q, %v", w, err)
	}
}

// Of two pods one waits for the other, as long as it wants to.
func TestLockPath(t *testing.T) {
	m, _ := newManager(t, &memObjects{})
	synctest.Test(t, func(t *testing.T) {
		unlock, err := m.lockPath(t.Context(), "/a")
		if err != nil {
			t.Fatal(err)
		}
		free, err := m.lockPath(t.Context(), "/b")
		if err != nil {
			t.Fatal(err)
		}
		free()
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 2)
		go func() {
			_, err := m.lockPath(ctx, "/a")
			got <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Errorf("a wait that was given up: %v", err)
		}
		go func() {
			unlock, err := m.lockPath(t.Context(), "/a")
			if err == nil {
				unlock()
			}
			got <- err
		}()
		synctest.Wait()
		unlock()
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}
