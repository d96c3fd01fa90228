package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

type file struct {
	name string
	mode int64
	data []byte
	link string // of a symbolic link
}

// pack makes a tar.gz without times and owners, so that it depends on nothing else.
func pack(files []file) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data))}
		if f.link != "" {
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
		}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.data); err != nil {
			return nil, err
		}
	}
	err = errors.Join(t.Close(), z.Close())
	return out.Bytes(), err
}

// checkStatic refuses a program that needs a loader or carries its symbols: it would
// not run from an image that has nothing else, or be larger than it has to.
func checkStatic(program []byte) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("it is not static")
		}
	}
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
		return errors.New("it is not stripped")
	}
	return nil
}

func (r *releaser) add(name string, data []byte) error {
	r.files = append(r.files, name)
	return os.WriteFile(filepath.Join(r.out, name), data, 0o644)
}

// checksums are what sha256sum -c reads.
func (r *releaser) checksums() error {
	var list strings.Builder
	for _, name := range r.files {
		data, err := os.ReadFile(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(data), name)
		fmt.Printf("%7.1f MB  %s\n", float64(len(data))/1e6, filepath.Join(r.out, name))
	}
	return r.add("SHA256SUMS", []byte(list.String()))
}
