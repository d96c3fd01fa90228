package images

import (
	"strings"
	"testing"
)

func TestWithTag(t *testing.T) {
	hash := strings.Repeat("0123456789abcdef", 4)
	for _, tt := range []struct{ image, want, repository string }{
		{"busybox", "busybox:latest", "docker.io/library/busybox"},
		{"busybox:1.36", "busybox:1.36", "docker.io/library/busybox"},
		{"me/app", "me/app:latest", "docker.io/me/app"},
		{"docker.io/busybox", "docker.io/busybox:latest", "docker.io/library/busybox"},
		{"index.docker.io/busybox", "index.docker.io/busybox:latest", "docker.io/library/busybox"},
		{"registry.example:5000/a/b", "registry.example:5000/a/b:latest", "registry.example:5000/a/b"},
		{"localhost/a", "localhost/a:latest", "localhost/a"},
		{"localhost:5000/a:t", "localhost:5000/a:t", "localhost:5000/a"},
		{"[fd00::1]:5000/a", "[fd00::1]:5000/a:latest", "[fd00::1]:5000/a"},
		{"Registry/a", "Registry/a:latest", "Registry/a"},
		{"a@sha256:" + hash, "a@sha256:" + hash, "docker.io/library/a"},
		{"r.io/a:t@sha256:" + hash, "r.io/a:t@sha256:" + hash, "r.io/a"},
		{"a/b_c/d__e/f-g/h---i/j.k", "a/b_c/d__e/f-g/h---i/j.k:latest", "docker.io/a/b_c/d__e/f-g/h---i/j.k"},
	} {
		got, err := WithTag(tt.image)
		if err != nil || got != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.image, got, err, tt.want)
		}
		if n, err := ParseName(tt.image); err != nil || n.Repository != tt.repository {
			t.Errorf("%s: repository %s, %v, want %s", tt.image, n.Repository, err, tt.repository)
		}
	}
	for image, want := range map[string]string{
		"": "invalid reference format", "a b": "invalid reference format", "a:": "invalid reference format",
		"r.io/": "invalid reference format", "/a": "invalid reference format", "r.io//a": "invalid reference format",
		"a:-t": "invalid reference format", "a@sha256:12": "invalid reference format", "a@b": "invalid reference format",
		"a:" + strings.Repeat("t", 129): "invalid reference format", "a..b": "invalid reference format", "a___b": "invalid reference format",
		"a:b:c": "invalid reference format", "-r.io/a": "invalid reference format", "r.io:x/a": "invalid reference format",
		"Busy": "must be lowercase", "r.io/App": "must be lowercase",
		hash: "cannot specify 64-byte hexadecimal strings", strings.Repeat("a/", 128) + "b": "more than 255",
	} {
		if _, err := WithTag(image); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "couldn't parse image name ") {
			t.Errorf("%q: %v, want %s", image, err, want)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("r.io:5000/a/b:t@sha256:0123456789abcdef0123456789abcdef")
	f.Add("[::1]:80/a")
	f.Fuzz(func(t *testing.T, image string) {
		n, err := ParseName(image)
		if err != nil {
			return
		}
		if again, err := ParseName(n.String()); err != nil || again != n {
			t.Errorf("%q is %+v, and that is %+v, %v", image, n, again, err)
		}
	})
}
