package lab

import (
	"context"
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The images of a lab. They are built here, since a lab needs no registry.
const (
	BusyboxImage = "skerry.io/lab/busybox:1"
	PauseImage   = "skerry.io/lab/pause:1"
)

//go:embed pause/pause.c
var pauseSource []byte

// importImages gives the edge's containerd the images that it does not have.
func (e *Edge) importImages(ctx context.Context) error {
	out, err := e.Ctr(ctx, "images", "ls", "-q")
	if err != nil {
		return err
	}
	have := strings.Fields(out)
	for ref, build := range map[string]func(context.Context) (image, error){
		BusyboxImage: e.lab.busyboxImage, PauseImage: e.lab.pauseImage,
	} {
		if slices.Contains(have, ref) {
			continue
		}
		file := e.lab.Path("images", strings.NewReplacer("/", "-", ":", "-").Replace(ref)+".tar")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		err := writeIfMissing(file, func() ([]byte, error) {
			im, err := build(ctx)
			if err != nil {
				return nil, fmt.Errorf("build image %s: %w", ref, err)
			}
			return im.archive()
		})
		if err != nil {
			return err
		}
		if _, err := e.Ctr(ctx, "images", "import", file); err != nil {
			return err
		}
	}
	return nil
}

// busyboxImage is this machine's static busybox with links for its applets.
func (l *Lab) busyboxImage(ctx context.Context) (image, error) {
	binary, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return image{}, err
	}
	applets, err := l.run(ctx, "/bin/busybox", "--list")
	if err != nil {
		return image{}, err
	}
	im := image{ref: BusyboxImage, cmd: []string{"sh"}}
	for _, dir := range []string{"bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var"} {
		im.files = append(im.files, imageFile{path: dir, mode: fs.ModeDir | 0o755})
	}
	im.files = append(
		im.files,
		imageFile{path: "tmp", mode: fs.ModeDir | fs.ModeSticky | 0o777},
		imageFile{path: "bin/busybox", mode: 0o755, data: binary},
		imageFile{path: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")},
		imageFile{path: "etc/group", mode: 0o644, data: []byte("root:x:0:\nnogroup:x:65534:\n")},
	)
	for name := range strings.FieldsSeq(applets) {
		if name != "busybox" {
			im.files = append(im.files, imageFile{path: "bin/" + name, target: "/bin/busybox"})
		}
	}
	return im, nil
}

// pauseImage holds the process that keeps a pod's namespaces.
func (l *Lab) pauseImage(ctx context.Context) (image, error) {
	dir, err := os.MkdirTemp("", "pause")
	if err != nil {
		return image{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "pause")
	if _, err := l.runInput(ctx, pauseSource, "gcc", "-Os", "-Wall", "-static", "-s", "-o", program, "-x", "c", "-"); err != nil {
		return image{}, err
	}
	binary, err := os.ReadFile(program)
	return image{
		ref: PauseImage, entrypoint: []string{"/pause"}, user: "65535:65535",
		files: []imageFile{{path: "pause", mode: 0o755, data: binary}},
	}, err
}
