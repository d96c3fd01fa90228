package lab

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"runtime"
)

// image is what becomes a docker-archive of one layer.
type image struct {
	ref        string
	files      []imageFile
	entrypoint []string
	cmd        []string
	user       string
}

// imageFile is a file of the layer: a directory when its mode says so, a link
// when target is set.
type imageFile struct {
	path   string
	mode   fs.FileMode
	data   []byte
	target string
}

// created is in every image, so that the same content has the same digest.
const created = "2026-01-01T00:00:00Z"

// archive builds the image in the format that "docker save" writes and
// containerd imports.
func (im image) archive() ([]byte, error) {
	layer, err := im.layer()
	if err != nil {
		return nil, err
	}
	digest := hexSum(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": created,
		"config": map[string]any{
			"Env":        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			"Entrypoint": im.entrypoint, "Cmd": im.cmd, "User": im.user,
		},
		"history": []map[string]string{{"created": created, "created_by": "skerry lab"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest}},
	})
	if err != nil {
		return nil, err
	}
	configName, layerName := hexSum(config)+".json", digest+".tar"
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{im.ref}, "Layers": []string{layerName}}})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range []imageFile{
		{path: configName, mode: 0o644, data: config},
		{path: layerName, mode: 0o644, data: layer},
		{path: "manifest.json", mode: 0o644, data: manifest},
	} {
		if err := f.write(w); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

func (im image) layer() ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range im.files {
		if err := f.write(w); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

func (f imageFile) write(w *tar.Writer) error {
	h := &tar.Header{Name: f.path, Mode: int64(f.mode.Perm()), Typeflag: tar.TypeReg, Size: int64(len(f.data))}
	switch {
	case f.mode.IsDir():
		h.Name, h.Typeflag = f.path+"/", tar.TypeDir
		if f.mode&fs.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
	case f.target != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.target, 0o777
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(f.data)
	return err
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
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
