// Package images builds the images of the upstream end-to-end tests from what can be
// had without a registry of images: Debian's packages, upstream's own sources, and
// programs built of them. They hold what the tests use of the originals.
package images

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/tests/image"
)

// recipes are the sources of this package: other recipes make other images.
//
//go:embed *.go
var recipes embed.FS

// Config says of what to build the images.
type Config struct {
	// Dir is where the image layout is made; what is there goes.
	Dir string
	// Kubernetes is the folder of the module k8s.io/kubernetes.
	Kubernetes string
	// Agnhost and Nonewprivs are programs of that module. The first may need this
	// machine's C library, which its image has, the second must need none.
	Agnhost, Nonewprivs string
	// Log tells each image; nil discards.
	Log *slog.Logger
}

// Key tells images of other recipes or programs apart. The names of the programs
// must tell their versions.
func Key(programs ...string) (string, error) {
	sum := sha256.New()
	for _, p := range programs {
		sum.Write([]byte(filepath.Base(p) + "\n"))
	}
	err := fs.WalkDir(recipes, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := recipes.ReadFile(path)
		sum.Write(b)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil))[:16], err
}

// Build makes the images. It needs apt with working sources, dpkg-deb, gcc and
// busybox-static.
func Build(ctx context.Context, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.RemoveAll(cfg.Dir); err != nil {
		return err
	}
	layout, err := image.Create(cfg.Dir)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "images")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	b := &builder{cfg: cfg, layout: layout, work: work}
	for _, step := range []struct {
		what string
		make func(context.Context) error
	}{{"pause", b.pause}, {"busybox", b.busybox}, {"agnhost", b.agnhost}, {"nginx", b.nginx}} {
		if err := step.make(ctx); err != nil {
			return fmt.Errorf("build image %s: %w", step.what, err)
		}
		cfg.Log.Debug("image built", "image", step.what)
	}
	return layout.Save()
}

// builder has what the recipes share.
type builder struct {
	cfg    Config
	layout *image.Layout
	work   string
	bash   []byte // a static one
}

// run runs a command; what it complains of is its error's text.
func run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// files adds a layer of these files.
func (b *builder) files(files ...image.File) (image.Descriptor, error) {
	return b.layout.AddLayer(image.WriteFiles(files...))
}

// host reads a file of this machine as a file of an image.
func host(from, path string, mode fs.FileMode) (image.File, error) {
	data, err := os.ReadFile(from)
	return image.File{Path: path, Mode: mode, Data: data}, err
}

func dir(path string, mode fs.FileMode) image.File {
	return image.File{Path: path, Mode: mode | fs.ModeDir}
}

func text(path, data string) image.File {
	return image.File{Path: path, Mode: 0o644, Data: []byte(data)}
}

func link(path, target string) image.File { return image.File{Path: path, Target: target} }

// accounts are the files by which users and names are looked up. More accounts are
// lines of their files.
func accounts(users, groups string) []image.File {
	return []image.File{
		text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"+users),
		text("etc/group", "root:x:0:\nnogroup:x:65534:\n"+groups),
		text("etc/nsswitch.conf", "hosts: files dns\n"),
	}
}

// applets are busybox and links to it for each applet that is in none of the usual
// folders of an image yet.
func applets(ctx context.Context, has func(path string) bool) ([]image.File, error) {
	return image.Applets(ctx, func(name string) bool {
		return !slices.ContainsFunc([]string{"bin", "sbin", "usr/bin", "usr/sbin"}, func(dir string) bool { return has(dir + "/" + name) })
	})
}
