package install_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/tests/lab"
)

// leastSecret is the length below which a value says nothing: "true" is in every file.
const leastSecret = 8

// secrets are all that the lab has: values of Secrets, and the edge's own key.
func secrets(t *testing.T, edge *lab.Edge) map[string]string {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Namespace, Name string }
			Data     map[string][]byte
		}
	}
	must(t, json.Unmarshal([]byte(kubectl(t, "get", "secrets", "-A", "-o", "json")), &list))
	all := map[string]string{}
	for _, s := range list.Items {
		for k, v := range s.Data {
			// Certificates are no secret, nor are a token's description and times.
			if len(v) >= leastSecret && k != "tls.crt" && k != "ca.crt" && (s.Metadata.Namespace != "kube-system" || k == "token-secret") {
				all[s.Metadata.Namespace+"/"+s.Metadata.Name+"/"+k] = string(v)
			}
		}
	}
	key, err := os.ReadFile(filepath.Join(edge.ConfigDir(), "pki", "edge.key"))
	must(t, err)
	all["the edge's key"] = string(key)
	if len(all) < 4 {
		t.Errorf("the lab has only the secrets %v", all)
	}
	return all
}

// bundlesHoldNoSecret takes bundles of both ends and looks for every secret of the
// lab, as it is and as the API shows it.
func bundlesHoldNoSecret(t *testing.T, edge *lab.Edge) {
	t.Helper()
	cloud, local := filepath.Join(t.TempDir(), "cloud.tar.gz"), filepath.Join(t.TempDir(), "edge.tar.gz")
	skerry(t, "support-bundle", "--cloud", "-o", cloud)
	_, err := edge.Run(t.Context(), theLab.Bin("skerry"), "support-bundle", "--edge", "--config-dir", edge.ConfigDir(), "-o", local)
	must(t, err)
	want := map[string][]string{
		cloud: {".log", "/doctor.txt", "/proxy/deployment.yaml", "/proxy/metrics.txt", "/edges/" + edge.Name + "/session.json", "/edges/" + edge.Name + "/pods.yaml"},
		local: {"/doctor.txt", "/edgeagent.yaml", "/node.yaml", "/pods.yaml", "/state-files.txt", "/machine/meminfo.txt"},
	}
	for file, names := range want {
		files := untar(t, file)
		for _, name := range names {
			found := false
			for n := range files {
				found = found || strings.HasSuffix(n, name)
			}
			if !found {
				t.Errorf("%s has no %s", file, name)
			}
		}
		for n, text := range files {
			for whose, secret := range secrets(t, edge) {
				lines := strings.Split(strings.TrimSpace(secret), "\n")
				middle := lines[len(lines)/2] // of a key, a line that no other file has
				for _, form := range []string{secret, middle, base64.StdEncoding.EncodeToString([]byte(secret))} {
					if strings.Contains(text, form) {
						t.Errorf("%s of %s holds the secret %s", n, file, whose)
					}
				}
			}
			if strings.Contains(text, inlineSecret) {
				t.Errorf("%s of %s holds a pod's environment", n, file)
			}
		}
	}
}

func untar(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(t, err)
		b, err := io.ReadAll(r)
		must(t, err)
		files[h.Name] = string(b)
	}
}

// doctors has nothing to say against either end.
func doctors(t *testing.T, edge *lab.Edge) {
	t.Helper()
	out, _ := skerry(t, "doctor", "--cloud")
	t.Logf("doctor in the cloud:\n%s", out)
	for _, want := range []string{"ok    the cloud proxy runs", "ok    kube-apiserver reaches its pod", "ok    its address answers", "ok    edges are Ready"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	out, err := edge.Run(t.Context(), theLab.Bin("skerry"), "doctor", "--config-dir", edge.ConfigDir())
	t.Logf("doctor on the edge: %v\n%s", err, out)
	for _, want := range []string{"ok    the agent answers", "ok    it has a session to the cloud", "ok    the Node is Ready", "ok    UDP reaches it"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q", want)
		}
	}
}
