package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestArchive(t *testing.T) {
	files := []File{
		{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Path: "bin/su", Mode: fs.ModeSetuid | 0o755, Data: []byte("binary")},
		{Path: "bin/sh", Target: "/bin/su"},
	}
	b, err := Archive("skerry.io/lab/x:1", Process{Cmd: []string{"sh"}}, files)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Archive("skerry.io/lab/x:1", Process{Cmd: []string{"sh"}}, files); err != nil || !bytes.Equal(b, again) {
		t.Errorf("the same image has another archive: %v", err)
	}
	members := untar(t, b)
	var manifests []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(members["manifest.json"], &manifests); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"skerry.io/lab/x:1"}, manifests[0].RepoTags); d != "" {
		t.Error(d)
	}
	layer := members[manifests[0].Layers[0]]
	if hexSum(layer)+".tar" != manifests[0].Layers[0] || !bytes.Contains(members[manifests[0].Config], []byte("sha256:"+hexSum(layer))) {
		t.Error("the digests are wrong")
	}
	r := tar.NewReader(bytes.NewReader(layer))
	var got []string
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.FileInfo().Mode().String()+" "+h.Name+" "+h.Linkname)
	}
	want := []string{"dtrwxrwxrwx tmp/ ", "urwxr-xr-x bin/su ", "Lrwxrwxrwx bin/sh /bin/su"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func untar(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
