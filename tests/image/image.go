// Package image builds container images of files, and serves them, so that labs
// and suites need neither another's registry nor a builder. An image is either one
// docker-archive in memory, which a runtime imports, or part of a Layout on disk,
// from which a Registry lets runtimes pull. The same files give the same digests.
package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"runtime"
)

// Process is what an image runs if nobody says otherwise.
type Process struct {
	Entrypoint []string
	Cmd        []string
	User       string // "" is root
}

// File is a file of a layer: a directory when its mode says so, a symbolic link
// when Target is set.
type File struct {
	Path   string // without a slash before it
	Mode   fs.FileMode
	Data   []byte
	Target string
}

// Write appends the file to a layer. All belongs to root.
func (f File) Write(w *tar.Writer) error {
	h := &tar.Header{Name: f.Path, Mode: int64(f.Mode.Perm()), Typeflag: tar.TypeReg, Size: int64(len(f.Data))}
	for bit, mode := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if f.Mode&bit != 0 {
			h.Mode |= mode
		}
	}
	switch {
	case f.Mode.IsDir():
		h.Name, h.Typeflag = f.Path+"/", tar.TypeDir
	case f.Target != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Target, 0o777
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(f.Data)
	return err
}

// WriteFiles gives the function that writes files as a layer.
func WriteFiles(files ...File) func(*tar.Writer) error {
	return func(w *tar.Writer) error {
		for _, f := range files {
			if err := f.Write(w); err != nil {
				return err
			}
		}
		return nil
	}
}

// created is in every image, so that the same content has the same digest.
const created = "2026-01-01T00:00:00Z"

// config is the configuration object of an image of layers with these digests.
func (p Process) config(digests []string) map[string]any {
	history := make([]map[string]string, len(digests))
	for i := range history {
		history[i] = map[string]string{"created": created, "created_by": "skerry"}
	}
	return map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": created,
		"config": map[string]any{
			"Env":        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			"Entrypoint": p.Entrypoint, "Cmd": p.Cmd, "User": p.User,
		},
		"history": history,
		"rootfs":  map[string]any{"type": "layers", "diff_ids": digests},
	}
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
