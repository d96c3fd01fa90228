package bootstrap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
)

func contextWithCancel(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithCancel(t.Context())
}

func chainOf(t *testing.T, pair *tls.Certificate) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range pair.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	return chain
}

// TestInstallIsAllOrNothing makes each of the renames fail in turn.
func TestInstallIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("pki/edge.key", "old key")
	write("edgeagent.yaml", "old config")
	write("edgeagent.yaml.old/in-the-way", "a directory where a file has to go")

	set := fileSet{ca: []byte("ca"), cert: []byte("cert"), key: []byte("key"), yaml: []byte("yaml")}
	if _, err := install(Config{Dir: dir}, set); err == nil {
		t.Fatal("a file replaced a directory")
	}
	for name, want := range map[string]string{"pki/edge.key": "old key", "edgeagent.yaml": "old config"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
		}
	}
	noLeftovers(t, dir, "edgeagent.yaml", "edgeagent.yaml.old", "pki")
	if err := os.RemoveAll(filepath.Join(dir, "edgeagent.yaml.old")); err != nil {
		t.Fatal(err)
	}
	if _, err := install(Config{Dir: dir}, set); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "edgeagent.yaml.old")); err != nil || string(got) != "old config" {
		t.Errorf("the old configuration is %q, %v", got, err)
	}
}
