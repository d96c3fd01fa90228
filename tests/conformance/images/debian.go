package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/skerry-io/skerry/tests/image"
)

// clutter is what packages bring that no test looks at.
func clutter(path string) bool {
	for _, dir := range []string{
		"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/bash-completion", "usr/share/lintian", "usr/share/perl5", "var/cache",
	} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

// debian adds a layer of Debian packages with all that they depend on, as they are
// unpacked: nothing of them is run, so what their scripts would make is up to the
// recipe. has tells what is in the layer.
func (b *builder) debian(ctx context.Context, packages ...string) (layer image.Descriptor, has func(path string) bool, err error) {
	debs, err := b.download(ctx, packages...)
	if err != nil {
		return image.Descriptor{}, nil, err
	}
	seen := map[string]bool{}
	layer, err = b.layout.AddLayer(func(w *tar.Writer) error {
		for _, deb := range debs {
			if err := unpack(ctx, w, deb, func(name string) bool {
				name = strings.TrimSuffix(name, "/")
				if name == "" || seen[name] || clutter(name) {
					return false
				}
				seen[name] = true
				return true
			}); err != nil {
				return fmt.Errorf("%s: %w", filepath.Base(deb), err)
			}
		}
		return nil
	})
	return layer, func(path string) bool { return seen[path] }, err
}

// download fetches packages with their dependencies as if nothing were installed.
func (b *builder) download(ctx context.Context, packages ...string) ([]string, error) {
	dir, err := os.MkdirTemp(b.work, "apt")
	if err != nil {
		return nil, err
	}
	status := filepath.Join(dir, "status")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "archives", "partial"), 0o755), os.WriteFile(status, nil, 0o600)); err != nil {
		return nil, err
	}
	install := append([]string{
		"apt-get", "install", "-qq", "-y", "--no-install-recommends", "--download-only",
		"-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root",
		"-o", "Dir::State::status=" + status, "-o", "Dir::Cache::archives=" + filepath.Join(dir, "archives"),
	}, packages...)
	if err := run(ctx, install...); err != nil {
		// The package lists of a fresh machine are absent or old.
		if err := run(ctx, "apt-get", "update", "-q"); err != nil {
			return nil, err
		}
		if err := run(ctx, install...); err != nil {
			return nil, err
		}
	}
	debs, err := filepath.Glob(filepath.Join(dir, "archives", "*.deb"))
	if err == nil && len(debs) == 0 {
		err = errors.New("apt-get has downloaded nothing")
	}
	return debs, err
}

// unpack copies the files of a package that keep wants.
func unpack(ctx context.Context, w *tar.Writer, deb string, keep func(string) bool) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	copyErr := copyTar(w, tar.NewReader(out), keep)
	// What follows a tar's end fills up its last block.
	_, drainErr := io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return errors.Join(copyErr, drainErr)
}

// copyTar copies the members of a tar that keep wants, by names without "./" before
// them.
func copyTar(w *tar.Writer, r *tar.Reader, keep func(name string) bool) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		h.Name = strings.TrimPrefix(h.Name, "./")
		if h.Typeflag == tar.TypeLink {
			h.Linkname = strings.TrimPrefix(h.Linkname, "./")
		}
		if !keep(h.Name) {
			continue
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
	}
}

// member gives one file of a package.
func member(ctx context.Context, deb, name string) ([]byte, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := unpack(ctx, w, deb, func(n string) bool { return n == name }); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	r := tar.NewReader(&layer)
	if _, err := r.Next(); err != nil {
		return nil, fmt.Errorf("%s has no %s: %w", filepath.Base(deb), name, err)
	}
	return io.ReadAll(r)
}
