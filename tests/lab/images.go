package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/tests/image"
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
	for ref, build := range map[string]func(context.Context, string) ([]byte, error){
		BusyboxImage: func(ctx context.Context, ref string) ([]byte, error) { return image.Busybox(ctx, ref, "sh") },
		PauseImage:   e.lab.pauseImage,
	} {
		if slices.Contains(have, ref) {
			continue
		}
		file := e.lab.Path("images", strings.NewReplacer("/", "-", ":", "-").Replace(ref)+".tar")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		err := writeIfMissing(file, func() ([]byte, error) {
			archive, err := build(ctx, ref)
			if err != nil {
				return nil, fmt.Errorf("build image %s: %w", ref, err)
			}
			return archive, nil
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

// pauseImage is an archive of the process that keeps a pod's namespaces.
func (l *Lab) pauseImage(ctx context.Context, ref string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "pause")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "pause")
	if _, err := l.runInput(ctx, pauseSource, "gcc", "-Os", "-Wall", "-static", "-s", "-o", program, "-x", "c", "-"); err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	process := image.Process{Entrypoint: []string{"/pause"}, User: "65535:65535"}
	return image.Archive(ref, process, []image.File{{Path: "pause", Mode: 0o755, Data: binary}})
}

// writeIfMissing writes a file whole or not at all.
func writeIfMissing(path string, make func() ([]byte, error)) error {
	if exists(path) {
		return nil
	}
	b, err := make()
	if err != nil {
		return err
	}
	part := path + ".part"
	return errors.Join(os.WriteFile(part, b, 0o600), os.Rename(part, path))
}
