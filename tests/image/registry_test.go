package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// served is a registry of two images that have their lowest layer in common.
func served(t *testing.T) *httptest.Server {
	t.Helper()
	dir := t.TempDir()
	l, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	layer := func(path string) Descriptor {
		d, err := l.AddLayer(WriteFiles(File{Path: path, Mode: 0o755, Data: []byte(path)}))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base, top := layer("bin/sh"), layer("bin/app")
	if again := layer("bin/sh"); !cmp.Equal(again, base) {
		t.Errorf("the same layer is %v, then %v", base, again)
	}
	if err := l.Add(Process{Cmd: []string{"sh"}}, []Descriptor{base}, "a.example/base:1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Add(Process{Entrypoint: []string{"app"}, User: "7"}, []Descriptor{base, top}, "a.example/group/app:1", "a.example/group/app:2"); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(); err != nil {
		t.Fatal(err)
	}
	r, err := NewRegistry(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Refs()); n != 3 {
		t.Errorf("%d names, want 3", n)
	}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return s
}

// answer is what a registry has answered.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func get(t *testing.T, url string) answer {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

// A pull walks from the tag to the manifest, and from there to configuration and
// layers, each of which has the digest and size that were said before.
func TestPull(t *testing.T) {
	url := served(t).URL + "/v2/group/app/"
	tagged := get(t, url+"manifests/2?ns=a.example")
	digest := "sha256:" + hexSum(tagged.body)
	if tagged.status != http.StatusOK || tagged.header.Get("Content-Type") != typeManifest || tagged.header.Get("Docker-Content-Digest") != digest {
		t.Fatalf("%+v", tagged)
	}
	if same := get(t, url+"manifests/"+digest+"?ns=a.example"); !bytes.Equal(tagged.body, same.body) {
		t.Error("by its digest the manifest is another")
	}
	var m manifest
	if err := json.Unmarshal(tagged.body, &m); err != nil || len(m.Layers) != 2 {
		t.Fatalf("%s: %v", tagged.body, err)
	}
	var diffIDs []string
	for _, d := range m.Layers {
		b := get(t, url+"blobs/"+d.Digest+"?ns=a.example").body
		if "sha256:"+hexSum(b) != d.Digest || int64(len(b)) != d.Size {
			t.Errorf("%v is %d bytes", d, len(b))
		}
		diffIDs = append(diffIDs, d.Digest)
		if _, err := tar.NewReader(bytes.NewReader(b)).Next(); err != nil {
			t.Error(err)
		}
	}
	var config struct {
		Config Process
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(get(t, url+"blobs/"+m.Config.Digest).body, &config); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(diffIDs, config.RootFS.DiffIDs); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Process{Entrypoint: []string{"app"}, User: "7"}, config.Config); d != "" {
		t.Error(d)
	}
}

func TestRegistryLacks(t *testing.T) {
	url := served(t).URL
	for path, want := range map[string]int{
		"/v2/":                                                 200,
		"/v2/base/manifests/1?ns=a.example":                    200,
		"/v2/base/manifests/1?ns=b.example":                    404, // another registry's
		"/v2/base/manifests/2?ns=a.example":                    404,
		"/v2/base/manifests/sha256:" + strings.Repeat("0", 64): 404,
		"/v2/base/blobs/sha256:" + strings.Repeat("0", 64):     404,
		"/v2/base/blobs/sha256:../../index.json":               404,
		"/v2/base/tags/list":                                   404,
		"/":                                                    404,
	} {
		if got := get(t, url+path); got.status != want {
			t.Errorf("%s: %d %s, want %d", path, got.status, got.body, want)
		}
	}
	resp, err := http.Post(url+"/v2/base/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("an upload: %s", resp.Status)
	}
}
