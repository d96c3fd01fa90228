package images

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// maxIndex bounds what an archive may say of its images.
const maxIndex = 4 << 20

// archiveNames tells which images an archive has: one that docker save writes, or
// an OCI layout in a tar, perhaps compressed by gzip.
func archiveNames(ctx context.Context, file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read image archive: %w", err)
	}
	defer func() { _ = f.Close() }()
	var from io.Reader = f // which tar jumps in
	if strings.HasSuffix(file, ".gz") || strings.HasSuffix(file, ".tgz") {
		if from, err = gzip.NewReader(reading{ctx, f}); err != nil {
			return nil, fmt.Errorf("read image archive: %w", err)
		}
	}
	var found []string
	for r := tar.NewReader(from); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read image archive: %w", err)
		}
		var of func([]byte) ([]string, error)
		switch path.Clean(h.Name) {
		case "manifest.json":
			of = dockerNames
		case "index.json":
			of = ociNames
		default:
			continue
		}
		raw, err := io.ReadAll(io.LimitReader(r, maxIndex))
		if err != nil {
			return nil, fmt.Errorf("read image archive: %w", err)
		}
		more, err := of(raw)
		if err != nil {
			return nil, fmt.Errorf("read image archive: %s: %w", h.Name, err)
		}
		found = append(found, more...)
	}
	slices.Sort(found)
	if found = slices.Compact(found); len(found) == 0 {
		return nil, errors.New("read image archive: it names no image")
	}
	return found, nil
}

// reading reads until ctx ends.
type reading struct {
	ctx context.Context //nolint:containedctx // io.Reader has no other place for it
	io.Reader
}

func (r reading) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

func dockerNames(raw []byte) ([]string, error) {
	var manifest []struct{ RepoTags []string }
	if err := json.Unmarshal(raw, &manifest); err != nil {
		return nil, err
	}
	var out []string
	for _, image := range manifest {
		for _, tag := range image.RepoTags {
			out = append(out, canonical(tag))
		}
	}
	return out, nil
}

// ociNames takes those names that are complete: a mere tag, such as skopeo's, is
// of no use without the rest.
func ociNames(raw []byte) ([]string, error) {
	var index struct {
		Manifests []struct{ Annotations map[string]string }
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, err
	}
	var out []string
	for _, m := range index.Manifests {
		for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
			if name := m.Annotations[key]; strings.ContainsAny(name, "/:") {
				out = append(out, canonical(name))
				break
			}
		}
	}
	return out, nil
}
