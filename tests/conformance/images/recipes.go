package images

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/skerry-io/skerry/tests/image"
)

// registry is where the tests look for most of their images.
const registry = "registry.k8s.io/e2e-test-images/"

// pause is upstream's own.
func (b *builder) pause(ctx context.Context) error {
	program := filepath.Join(b.work, "pause")
	source := filepath.Join(b.cfg.Kubernetes, "build", "pause", "linux", "pause.c")
	if err := run(ctx, "gcc", "-Os", "-static", "-s", "-DVERSION=v3.10.2", "-o", program, source); err != nil {
		return err
	}
	file, err := host(program, "pause", 0o755)
	if err != nil {
		return err
	}
	layer, err := b.files(file)
	if err != nil {
		return err
	}
	return b.layout.Add(image.Process{Entrypoint: []string{"/pause"}, User: "65535:65535"}, []image.Descriptor{layer}, "registry.k8s.io/pause:3.10.2")
}

// busybox is Debian's, with images that differ in user and programs only. A test
// compares what /bin/sh says of a write to a read-only file system; but another wants
// environment variables with names such as "data-1", which Debian's busybox drops and
// the original keeps: so "sh", found by PATH, is bash.
func (b *builder) busybox(ctx context.Context) error {
	debs, err := b.download(ctx, "bash-static")
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if strings.HasPrefix(filepath.Base(deb), "bash-static_") {
			if b.bash, err = member(ctx, deb, "bin/bash-static"); err != nil {
				return err
			}
		}
	}
	files, err := applets(ctx, func(path string) bool { return path == "bin/dpkg" || path == "bin/rpm" })
	if err != nil {
		return err
	}
	for _, path := range []string{"dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "usr/local", "usr/local/bin", "var", "var/run"} {
		files = append(files, dir(path, 0o755))
	}
	files = append(files, dir("tmp", 0o777|fs.ModeSticky), image.File{Path: "usr/local/bin/sh", Mode: 0o755, Data: b.bash})
	layer, err := b.files(append(files, accounts("", "")...)...)
	if err != nil {
		return err
	}
	layers := []image.Descriptor{layer}
	sh := image.Process{Cmd: []string{"sh"}}
	if err := b.layout.Add(sh, layers, registry+"busybox:1.37.0-2"); err != nil {
		return err
	}
	sh.User = "1234"
	if err := b.layout.Add(sh, layers, registry+"nonroot:1.5"); err != nil {
		return err
	}
	nnp, err := host(b.cfg.Nonewprivs, "usr/local/bin/nnp", 0o755|fs.ModeSetuid|fs.ModeSetgid)
	if err != nil {
		return err
	}
	if layer, err = b.files(nnp); err != nil {
		return err
	}
	return b.layout.Add(image.Process{Cmd: []string{"nnp"}}, append(layers, layer), registry+"nonewprivs:1.4")
}

// agnhost is upstream's program in the midst of the network tools that its own image
// has. The images on the same base add pages or nothing.
func (b *builder) agnhost(ctx context.Context) error {
	debian, has, err := b.debian(ctx, "bash", "curl", "netcat-openbsd", "iproute2", "iperf", "util-linux", "util-linux-extra", "socat",
		"bind9-dnsutils", "bind9-host", "hostname", "coreutils", "libc-bin")
	if err != nil {
		return err
	}
	// sh is no ash: Debian's busybox prefers its own applets, so nc would know no UDP.
	mine := []image.File{link("bin/nc", "nc.openbsd"), link("bin/sh", "bash"), dir("usr/local", 0o755), dir("usr/local/bin", 0o755), link("usr/local/bin/iperf", "/usr/bin/iperf")}
	links, err := applets(ctx, func(path string) bool {
		return has(path) || path == "bin/nc" || path == "bin/sh"
	})
	if err != nil {
		return err
	}
	mine = append(mine, links...)
	mine = append(mine, accounts("user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n",
		"user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n")...)
	tools, err := b.files(mine...)
	if err != nil {
		return err
	}
	base := []image.Descriptor{debian, tools}
	if err := b.layout.Add(image.Process{Cmd: []string{"sh"}}, base, registry+"glibc-dns-testing:2.1.1", registry+"ipc-utils:1.4"); err != nil {
		return err
	}
	program, err := host(b.cfg.Agnhost, "agnhost", 0o755)
	if err != nil {
		return err
	}
	files := []image.File{program, link("agnhost-2", "agnhost"), dir("uploads", 0o777)}
	for _, name := range []string{"localhost.crt", "localhost.key"} {
		f, err := host(filepath.Join(b.cfg.Kubernetes, "test", "images", "agnhost", "porter", name), name, 0o644)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	layer, err := b.files(files...)
	if err != nil {
		return err
	}
	base = append(base, layer)
	agnhost := []string{"/agnhost"}
	if err := b.layout.Add(image.Process{Entrypoint: agnhost, Cmd: []string{"pause"}}, base, registry+"agnhost:2.66.1", registry+"agnhost:2.55"); err != nil {
		return err
	}
	for _, name := range []string{"kitten", "nautilus"} {
		if layer, err = b.pages(filepath.Join(b.cfg.Kubernetes, "test", "images", name, "html")); err != nil {
			return err
		}
		if err := b.layout.Add(image.Process{Entrypoint: agnhost, Cmd: []string{"test-webserver"}}, append(base[:3:3], layer), registry+name+":1.8"); err != nil {
			return err
		}
	}
	return nil
}

// pages adds a layer with the files of a folder at its root.
func (b *builder) pages(folder string) (image.Descriptor, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return image.Descriptor{}, err
	}
	var files []image.File
	for _, e := range entries {
		f, err := host(filepath.Join(folder, e.Name()), e.Name(), 0o644)
		if err != nil {
			return image.Descriptor{}, err
		}
		files = append(files, f)
	}
	return b.files(files...)
}

// nginx is Debian's, set up like the original: in the foreground, logging to its
// outputs. Two versions differ in a file, since tests roll from one to the other.
func (b *builder) nginx(ctx context.Context) error {
	debian, has, err := b.debian(ctx, "nginx-light", "coreutils", "libc-bin", "hostname")
	if err != nil {
		return err
	}
	links, err := applets(ctx, func(path string) bool { return has(path) || path == "bin/sh" })
	if err != nil {
		return err
	}
	mine := append(links,
		image.File{Path: "bin/sh", Mode: 0o755, Data: b.bash},
		link("var/log/nginx/access.log", "/dev/stdout"), link("var/log/nginx/error.log", "/dev/stderr"),
		dir("usr/share/nginx", 0o755), dir("usr/share/nginx/html", 0o755),
		text("usr/share/nginx/html/index.html", "<html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1></body></html>\n"),
		dir("var/cache", 0o755), dir("var/cache/nginx", 0o755), dir("var/lib/nginx", 0o755), dir("run", 0o755),
		text("etc/nginx/nginx.conf", `user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log notice;
events { worker_connections 512; }
http {
  include /etc/nginx/mime.types;
  access_log /var/log/nginx/access.log;
  server { listen 80; root /usr/share/nginx/html; index index.html; }
}
`))
	mine = append(mine, accounts("www-data:x:33:33::/:/bin/false\n", "www-data:x:33:\n")...)
	for _, version := range []string{"1.27.0-2", "1.28.0-2"} {
		layer, err := b.files(append(mine, text("etc/nginx/e2e-version", version+"\n"))...)
		if err != nil {
			return err
		}
		if err := b.layout.Add(image.Process{Cmd: []string{"nginx", "-g", "daemon off;"}}, []image.Descriptor{debian, layer}, registry+"nginx:"+version); err != nil {
			return err
		}
	}
	return nil
}
