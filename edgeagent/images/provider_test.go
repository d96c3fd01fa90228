package images

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const pluginConfig = `apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: plugin
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ["*.r.io/team"]
  defaultCacheDuration: 1h
  args: ["--as", "me"]
  env: [{name: WHO, value: plugin}]
`

// plugin installs a shell script as an exec plugin. It appends what it was asked to
// the file calls.
func plugin(t *testing.T, answer string) (k *Keyring, calls func() int) {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\necho \"$WHO $* $(cat)\" >>" + dir + "/calls\n" + answer + "\n"
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "plugin"), []byte(script), 0o700),
		os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(pluginConfig), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	k, err := LoadKeyring(dir, dir) // the folder has one file that counts
	if err != nil {
		t.Fatal(err)
	}
	return k, func() int {
		raw, err := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil {
			return 0
		}
		want := `plugin --as me {"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"eu.r.io/team/`
		for line := range strings.Lines(string(raw)) {
			if !strings.HasPrefix(line, want) {
				t.Errorf("plugin was asked %s", line)
			}
		}
		return strings.Count(string(raw), "\n")
	}
}

func respond(rest string) string {
	return `echo '{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse",` + rest + `}'`
}

const pluginAuth = `"auth":{"*.r.io":{"username":"host","password":"p"},"*.r.io/team":{"username":"team","password":"p"},"q.io":{"username":"other"}}`

func TestPlugin(t *testing.T) {
	k, calls := plugin(t, respond(`"cacheKeyType":"Registry",`+pluginAuth))
	for _, tt := range []struct {
		image, want string
		calls       int
	}{
		{"q.r.io/other/a", "", 0}, // not the plugin's
		{"eu.r.io/team/a:1", "team host", 1},
		{"eu.r.io/team/b:1", "team host", 1}, // kept for the registry
	} {
		got, err := k.Lookup(t.Context(), tt.image, nil)
		if err != nil || users(got) != tt.want || calls() != tt.calls {
			t.Errorf("%s: %q, %v after %d calls, want %q after %d", tt.image, users(got), err, calls(), tt.want, tt.calls)
		}
	}
	// The pod's own come first.
	got, err := k.Lookup(t.Context(), "eu.r.io/team/a", []*corev1.Secret{secret(auths("eu.r.io"))})
	if err != nil || users(got) != "eu.r.io team host" {
		t.Errorf("%q, %v", users(got), err)
	}
}

func TestPluginCache(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name, rest string
		key        string
		life       time.Duration
	}{
		{"image", `"cacheKeyType":"Image"`, "eu.r.io/team/a", time.Hour},
		{"registry", `"cacheKeyType":"Registry"`, "eu.r.io", time.Hour},
		{"global", `"cacheKeyType":"Global","cacheDuration":"5m"`, everything, 5 * time.Minute},
		{"not kept", `"cacheKeyType":"Image","cacheDuration":"0s"`, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, _ := plugin(t, respond(tt.rest))
			if _, err := k.Lookup(t.Context(), "eu.r.io/team/a", nil); err != nil {
				t.Fatal(err)
			}
			p := k.providers[0]
			if len(p.cache) > 1 || tt.key == "" && len(p.cache) > 0 {
				t.Fatalf("cache %v", p.cache)
			}
			if tt.key == "" {
				return
			}
			c, ok := p.cache[tt.key]
			if !ok || c.until.Sub(now).Round(time.Minute) != tt.life {
				t.Fatalf("cache %v, want %s for %v", p.cache, tt.key, tt.life)
			}
			p.cache[tt.key] = cached{until: now.Add(-time.Second)}
			if _, ok := p.known("eu.r.io/team/a"); ok {
				t.Error("an old answer counts")
			}
		})
	}
}

func TestPluginFails(t *testing.T) {
	for name, tt := range map[string]struct{ answer, want string }{
		"exit code":  {"echo no luck >&2; exit 3", "exit status 3: no luck"},
		"no JSON":    {"echo s3cret", "can't be decoded"},
		"version":    {`echo '{"apiVersion":"v9","kind":"CredentialProviderResponse"}'`, "answers with v9"},
		"cache key":  {respond(`"cacheKeyType":"All"`), `cacheKeyType "All"`},
		"too much":   {"head -c 2000000 /dev/zero", "for image eu.r.io/team/a: "},
		"no answer ": {"", "can't be decoded"},
	} {
		t.Run(name, func(t *testing.T) {
			k, _ := plugin(t, tt.answer)
			got, err := k.Lookup(t.Context(), "eu.r.io/team/a", []*corev1.Secret{secret(auths("eu.r.io"))})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if users(got) != "eu.r.io" {
				t.Errorf("credentials %q: the pod's own are no worse for it", users(got))
			}
		})
	}
	k, _ := plugin(t, "sleep 100")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := k.Lookup(ctx, "eu.r.io/team/a", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a plugin that hangs: %v", err)
	}
}

func TestLoadKeyring(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "plugin"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "c.yaml")
	for name, tt := range map[string]struct{ old, new, want string }{
		"unknown key": {"args:", "arguments:", "arguments"},
		"kind":        {"kind: CredentialProviderConfig", "kind: Pod", "want kubelet.config.k8s.io/v1"},
		"version":     {"credentialprovider.kubelet.k8s.io/v1", "v2", "apiVersion"},
		"name":        {"name: plugin", "name: ../plugin", "name"},
		"no binary":   {"name: plugin", "name: absent", "absent"},
		"no images":   {`["*.r.io/team"]`, "[]", "matchImages"},
		"duration":    {"defaultCacheDuration: 1h", "defaultCacheDuration: -1h", "defaultCacheDuration"},
		"tokens":      {"args:", "tokenAttributes: {}\n  args:", "tokenAttributes"},
	} {
		if err := os.WriteFile(file, []byte(strings.Replace(pluginConfig, tt.old, tt.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKeyring(file, dir); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if k, err := LoadKeyring("", ""); err != nil || len(k.providers) != 0 {
		t.Errorf("none: %v", err)
	}
	if _, err := LoadKeyring(filepath.Join(dir, "absent"), dir); err == nil {
		t.Error("a file that is not there")
	}
}
