// Package oci writes an image of a single program, for several platforms, as one OCI
// layout in a tar: what containerd, CRI-O, podman and skopeo import and push. It needs
// no daemon, and the same files give the same bytes.
package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Media types and annotations of the OCI image specification, and containerd's name.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"

	refName        = "org.opencontainers.image.ref.name"
	containerdName = "io.containerd.image.name"
)

// user is whom the program runs as, unless a pod says otherwise: nobody that owns
// anything.
const user = "65532:65532"

// Platform is what a program was built for.
type Platform struct {
	OS      string `json:"os"`
	Arch    string `json:"architecture"`
	Variant string `json:"variant,omitempty"`
}

// Program is the one file of an image, for one platform.
type Program struct {
	Platform Platform
	Data     []byte
}

// Image is what Write writes.
type Image struct {
	Ref      string // with registry and tag
	Name     string // of the program; it lies at the root
	Labels   map[string]string
	Programs []Program // one for each platform
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *Platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type config struct {
	Created string `json:"created"`
	Platform
	Config struct {
		User       string            `json:"User"`
		Env        []string          `json:"Env"`
		Entrypoint []string          `json:"Entrypoint"`
		Labels     map[string]string `json:"Labels,omitempty"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// blobs are the parts of a layout, by digest.
type blobs map[string][]byte

func (b blobs) add(mediaType string, data []byte) descriptor {
	digest := digestOf(data)
	b[digest] = data
	return descriptor{MediaType: mediaType, Digest: digest, Size: len(data)}
}

func (b blobs) addJSON(mediaType string, v any) (descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return b.add(mediaType, data), nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Write writes the image to w.
func Write(w io.Writer, img Image) error {
	_, tag, ok := cutTag(img.Ref)
	if !ok {
		return fmt.Errorf("image %q has no tag", img.Ref)
	}
	parts := blobs{}
	platforms := index{SchemaVersion: 2, MediaType: typeIndex}
	for _, p := range img.Programs {
		d, err := parts.addProgram(img, p)
		if err != nil {
			return fmt.Errorf("image for %s/%s: %w", p.Platform.OS, p.Platform.Arch, err)
		}
		platforms.Manifests = append(platforms.Manifests, d)
	}
	top, err := parts.addJSON(typeIndex, platforms)
	if err != nil {
		return err
	}
	top.Annotations = map[string]string{refName: tag, containerdName: img.Ref}
	outer, err := json.Marshal(index{SchemaVersion: 2, MediaType: typeIndex, Manifests: []descriptor{top}})
	if err != nil {
		return err
	}
	return parts.write(w, outer)
}

// cutTag splits name and tag; a colon before the last slash is a port's.
func cutTag(ref string) (name, tag string, ok bool) {
	i := strings.LastIndexByte(ref, ':')
	if i <= strings.LastIndexByte(ref, '/') || i+1 == len(ref) {
		return ref, "", false
	}
	return ref[:i], ref[i+1:], true
}

func (b blobs) addProgram(img Image, p Program) (descriptor, error) {
	layer, err := tarball([]file{{img.Name, 0o755, p.Data}})
	if err != nil {
		return descriptor{}, err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return descriptor{}, err
	}
	if _, err := z.Write(layer); err != nil {
		return descriptor{}, err
	}
	if err := z.Close(); err != nil {
		return descriptor{}, err
	}
	c := config{Created: "1970-01-01T00:00:00Z", Platform: p.Platform}
	c.Config.User, c.Config.Entrypoint, c.Config.Labels = user, []string{"/" + img.Name}, img.Labels
	c.Config.Env = []string{"PATH=/"}
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", []string{digestOf(layer)}
	conf, err := b.addJSON(typeConfig, c)
	if err != nil {
		return descriptor{}, err
	}
	d, err := b.addJSON(typeManifest, manifest{
		SchemaVersion: 2, MediaType: typeManifest, Config: conf,
		Layers: []descriptor{b.add(typeLayer, packed.Bytes())},
	})
	d.Platform = &p.Platform
	return d, err
}

func (b blobs) write(w io.Writer, index []byte) error {
	files := []file{{"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", 0o644, index}}
	for digest, data := range b {
		files = append(files, file{"blobs/sha256/" + strings.TrimPrefix(digest, "sha256:"), 0o644, data})
	}
	slices.SortFunc(files[2:], func(a, b file) int { return strings.Compare(a.name, b.name) })
	data, err := tarball(files)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

type file struct {
	name string
	mode int64
	data []byte
}

// tarball has no times and no owners, so that it depends on nothing else.
func tarball(files []file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}
