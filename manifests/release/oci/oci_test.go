package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func untar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = data
	}
}

func parse[T any](t *testing.T, data []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
	return v
}

func TestWrite(t *testing.T) {
	img := Image{
		Ref: "registry.example:5000/a/cloudproxy:v1", Name: "cloudproxy", Labels: map[string]string{"k": "v"},
		Programs: []Program{
			{Platform{OS: "linux", Arch: "amd64"}, []byte("amd64's")},
			{Platform{OS: "linux", Arch: "arm", Variant: "v7"}, []byte("arm's")},
		},
	}
	var out, again bytes.Buffer
	if err := errors.Join(Write(&out, img), Write(&again, img)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("the same image has other bytes")
	}
	files := untar(t, &out)
	blob := func(d descriptor) []byte {
		t.Helper()
		data := files["blobs/sha256/"+d.Digest[len("sha256:"):]]
		if len(data) != d.Size || digestOf(data) != d.Digest {
			t.Fatalf("blob of %+v has %d bytes and %s", d, len(data), digestOf(data))
		}
		return data
	}
	top := parse[index](t, files["index.json"]).Manifests[0]
	if d := cmp.Diff(map[string]string{refName: "v1", containerdName: img.Ref}, top.Annotations); d != "" {
		t.Error(d)
	}
	if parse[map[string]string](t, files["oci-layout"])["imageLayoutVersion"] != "1.0.0" {
		t.Error("the layout has no version")
	}
	platforms := parse[index](t, blob(top)).Manifests
	if len(platforms) != len(img.Programs) {
		t.Fatalf("%d platforms", len(platforms))
	}
	for i, d := range platforms {
		m := parse[manifest](t, blob(d))
		c := parse[config](t, blob(m.Config))
		if c.Platform != img.Programs[i].Platform || *d.Platform != c.Platform || c.Config.User != user || c.Config.Entrypoint[0] != "/cloudproxy" {
			t.Errorf("config %+v", c)
		}
		z, err := gzip.NewReader(bytes.NewReader(blob(m.Layers[0])))
		if err != nil {
			t.Fatal(err)
		}
		layer, err := io.ReadAll(z)
		if err != nil || digestOf(layer) != c.RootFS.DiffIDs[0] {
			t.Errorf("layer %s, %v; config says %s", digestOf(layer), err, c.RootFS.DiffIDs[0])
		}
		if d := cmp.Diff(map[string][]byte{"cloudproxy": img.Programs[i].Data}, untar(t, bytes.NewReader(layer))); d != "" {
			t.Error(d)
		}
	}
	for _, ref := range []string{"a", "a:", "host:5000/a"} {
		if err := Write(io.Discard, Image{Ref: ref}); err == nil {
			t.Errorf("%q is taken for a name with a tag", ref)
		}
	}
}
