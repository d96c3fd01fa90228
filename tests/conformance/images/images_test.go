package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/tests/image"
)

// Names in packages begin with "./", in layers they must not.
func TestCopyTar(t *testing.T) {
	var in, out bytes.Buffer
	w := tar.NewWriter(&in)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir},
		{Name: "./bin/", Typeflag: tar.TypeDir},
		{Name: "./bin/a", Typeflag: tar.TypeReg, Size: 3},
		{Name: "./bin/b", Typeflag: tar.TypeLink, Linkname: "./bin/a"},
		{Name: "./bin/c", Typeflag: tar.TypeSymlink, Linkname: "./a"},
		{Name: "./usr/share/doc/a", Typeflag: tar.TypeReg},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = tar.NewWriter(&out)
	if err := copyTar(w, tar.NewReader(&in), func(n string) bool { return n != "" && !clutter(n) }); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.Name+" "+h.Linkname)
	}
	if d := cmp.Diff([]string{"bin/ ", "bin/a ", "bin/b bin/a", "bin/c ./a"}, got); d != "" {
		t.Error(d)
	}
}

func TestKeyTellsPrograms(t *testing.T) {
	one, err := Key("cache/agnhost-1", "cache/nonewprivs-1")
	if err != nil {
		t.Fatal(err)
	}
	if same, _ := Key("elsewhere/agnhost-1", "cache/nonewprivs-1"); same != one {
		t.Error("the folder of a program counts")
	}
	if other, _ := Key("cache/agnhost-2", "cache/nonewprivs-1"); other == one {
		t.Error("the version of a program does not count")
	}
}

// Links of applets must not take the place of a real program.
func TestApplets(t *testing.T) {
	files, err := applets(t.Context(), func(path string) bool { return path == "usr/bin/env" })
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip(err) // "make test" has installed it
	}
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]image.File{}
	for _, f := range files {
		has[f.Path] = f
	}
	if has["bin/ls"].Target != "/bin/busybox" || has["bin/busybox"].Target != "" || has["bin/env"].Path != "" {
		t.Errorf("ls -> %q, busybox -> %q, env -> %q", has["bin/ls"].Target, has["bin/busybox"].Target, has["bin/env"].Path)
	}
}
