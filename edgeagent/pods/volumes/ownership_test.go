package volumes

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// TestOwnStaysInTheTree gives trees to a group that hold links out of them and names
// that are no text.
func TestOwnStaysInTheTree(t *testing.T) {
	group := int64(os.Getgid())
	m := &Manager{log: slog.New(slog.DiscardHandler)}
	for name, give := range map[string]func(string) error{
		"fresh": func(dir string) error { return ownTree(dir, group, false) },
		"local": func(dir string) error {
			root, err := os.OpenRoot(dir)
			if err != nil {
				return err
			}
			defer func() { _ = root.Close() }()
			return m.ownDeep(t.Context(), root, ".", group)
		},
	} {
		t.Run(name, func(t *testing.T) {
			outside := filepath.Join(t.TempDir(), "outside")
			mustDo(t, os.Mkdir(outside, 0o700), os.WriteFile(filepath.Join(outside, "f"), nil, 0o600))
			dir := t.TempDir()
			inside := filepath.Join(dir, "sub")
			if name == "local" {
				inside = filepath.Join(dir, "\xff")
			}
			mustDo(
				t, os.Symlink(outside, filepath.Join(dir, "link")),
				os.Symlink(filepath.Join(outside, "f"), filepath.Join(dir, "file")),
				os.Mkdir(inside, 0o700), os.WriteFile(filepath.Join(inside, "f"), nil, 0o600), give(dir),
			)
			for path, want := range map[string]fs.FileMode{
				outside:                     fs.ModeDir | 0o700,
				filepath.Join(outside, "f"): 0o600,
				dir:                         fs.ModeDir | fs.ModeSetgid | 0o775,
				inside:                      fs.ModeDir | fs.ModeSetgid | 0o770,
				filepath.Join(inside, "f"):  0o660,
			} {
				if info, err := os.Stat(path); err != nil || info.Mode() != want {
					t.Errorf("%q: %v, %v, want %v", path, info.Mode(), err, want)
				}
			}
		})
	}
}

func mustDo(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}
