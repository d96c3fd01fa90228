package image

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// The media types of the OCI image specification that a layout uses.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
	refName      = "org.opencontainers.image.ref.name"
)

// Descriptor names a blob, as the OCI image specification has it.
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"` // sha256:...
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []Descriptor `json:"manifests"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        Descriptor   `json:"config"`
	Layers        []Descriptor `json:"layers"`
}

// Layout is a folder of images as the OCI image layout has them. Images that have
// a layer in common share its file.
type Layout struct {
	dir   string
	index index
}

// Create begins a layout in dir, which may hold blobs already.
func Create(dir string) (*Layout, error) {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return nil, err
	}
	return &Layout{dir: dir, index: index{SchemaVersion: 2, MediaType: typeIndex}}, nil
}

// Add adds an image of layers of this layout, the lowest first, under one or more
// full names with a tag.
func (l *Layout) Add(p Process, layers []Descriptor, refs ...string) error {
	digests := make([]string, len(layers))
	for i, layer := range layers {
		digests[i] = layer.Digest
	}
	config, err := l.addJSON(typeConfig, p.config(digests))
	if err != nil {
		return err
	}
	desc, err := l.addJSON(typeManifest, manifest{SchemaVersion: 2, MediaType: typeManifest, Config: config, Layers: layers})
	if err != nil {
		return err
	}
	for _, ref := range refs {
		d := desc
		d.Annotations = map[string]string{refName: ref}
		l.index.Manifests = append(l.index.Manifests, d)
	}
	return nil
}

// AddLayer adds what write writes, a layer that is never all in memory.
func (l *Layout) AddLayer(write func(*tar.Writer) error) (Descriptor, error) {
	return l.addBlob(typeLayer, func(out io.Writer) error {
		w := tar.NewWriter(out)
		if err := write(w); err != nil {
			return err
		}
		return w.Close()
	})
}

// Save writes the index; before that the layout is none.
func (l *Layout) Save() error {
	b, err := json.MarshalIndent(l.index, "", "  ")
	if err != nil {
		return err
	}
	for file, content := range map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion": "1.0.0"}`), "index.json": b} {
		part := filepath.Join(l.dir, file+".part")
		if err := errors.Join(os.WriteFile(part, content, 0o600), os.Rename(part, filepath.Join(l.dir, file))); err != nil {
			return err
		}
	}
	return nil
}

func (l *Layout) addJSON(mediaType string, v any) (Descriptor, error) {
	return l.addBlob(mediaType, func(out io.Writer) error { return json.NewEncoder(out).Encode(v) })
}

func (l *Layout) addBlob(mediaType string, write func(io.Writer) error) (Descriptor, error) {
	part, err := os.CreateTemp(l.dir, "part")
	if err != nil {
		return Descriptor{}, err
	}
	defer func() { _ = os.Remove(part.Name()) }()
	sum := sha256.New()
	buffer := bufio.NewWriterSize(io.MultiWriter(part, sum), 1<<20)
	err = errors.Join(write(buffer), buffer.Flush())
	size, seekErr := part.Seek(0, io.SeekCurrent)
	if err := errors.Join(err, seekErr, part.Close()); err != nil {
		return Descriptor{}, fmt.Errorf("write blob: %w", err)
	}
	d := Descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), Size: size}
	return d, os.Rename(part.Name(), blob(l.dir, d.Digest))
}

func blob(dir, digest string) string {
	return filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}
