package controlplane

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newPlane(t *testing.T, cfg Config) *Plane {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// snapshot maps each file below dir to its content.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[filepath.Base(path)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestPreparePKIChangesOnlyWhatMustChange(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	base := Config{Dir: dir}
	prepare := func(cfg Config, at time.Time) []string {
		t.Helper()
		before := snapshot(t, dir)
		changed, err := newPlane(t, cfg).preparePKI(at)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for name, data := range snapshot(t, dir) {
			if before[name] != data {
				names = append(names, name)
			}
		}
		if changed != (len(names) > 0) {
			t.Errorf("reported changed=%v, but changed %v", changed, names)
		}
		return names
	}

	if got := prepare(base, now); len(got) != 8*2+2+3 {
		t.Errorf("a new directory has %d files, want eight pairs, the signing pair and three kubeconfigs: %v", len(got), got)
	}
	if got := prepare(base, now); len(got) != 0 {
		t.Errorf("a second run changed %v", got)
	}
	more := base
	more.Names = []string{"lab.example"}
	if got := prepare(more, now); len(got) != 2 || !strings.HasPrefix(got[0], "apiserver.") {
		t.Errorf("a new name changed %v, want apiserver.crt and apiserver.key", got)
	}
	if err := os.Remove(filepath.Join(dir, "pki", "sa.pub")); err != nil {
		t.Fatal(err)
	}
	if got := prepare(more, now); len(got) != 1 || got[0] != "sa.pub" {
		t.Errorf("a lost public key changed %v, want sa.pub alone", got)
	}
	if got := prepare(more, now.Add(leafLife)); len(got) != 6*2+3 {
		t.Errorf("after a year %d files changed, want six pairs and three kubeconfigs: %v", len(got), got)
	}
	if got := prepare(more, now.Add(authorityLife)); len(got) != 8*2+3 {
		t.Errorf("after the authorities' life %d files changed, want eight pairs and three kubeconfigs: %v", len(got), got)
	}
}

func TestSecretsArePrivate(t *testing.T) {
	p := newPlane(t, Config{})
	if _, err := p.preparePKI(time.Now()); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(p.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestKubeconfigServer(t *testing.T) {
	for _, tc := range []struct{ address, want string }{
		{"", "https://127.0.0.1:16443"},
		{"10.1.2.3", "https://10.1.2.3:16443"},
		{"0.0.0.0", "https://127.0.0.1:16443"},
		{"::1", "https://[::1]:16443"},
	} {
		cfg := Config{}
		if tc.address != "" {
			cfg.Address = netip.MustParseAddr(tc.address)
		}
		p := newPlane(t, cfg)
		if _, err := p.preparePKI(time.Now()); err != nil {
			t.Fatal(err)
		}
		if got := readString(p.Kubeconfig()); !strings.Contains(got, `server: "`+tc.want+`"`) {
			t.Errorf("address %q: want server %s in\n%s", tc.address, tc.want, got)
		}
	}
}
