package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func unpack(t *testing.T, data []byte) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(b) + h.Linkname
	}
}

func TestPack(t *testing.T) {
	data, err := pack([]file{{name: "a", mode: 0o755, data: []byte("b")}, {name: "kubectl-a", link: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"a": "b", "kubectl-a": "a"}, unpack(t, data)); d != "" {
		t.Error(d)
	}
}

// TestChartAndChecksums makes all of a release that needs no compiler.
func TestChartAndChecksums(t *testing.T) {
	r := &releaser{version: "v1.2.3+dirty", out: filepath.Join(t.TempDir(), "dist")}
	if err := r.clear(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.chart(imageName+":v1.2.3"), r.checksums()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(r.out, "skerry-chart-v1.2.3-dirty.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	chart := unpack(t, data)
	if !strings.Contains(chart["skerry/values.yaml"], "image: "+imageName+":v1.2.3\n") || chart["skerry/templates/deployment.yaml"] == "" {
		t.Errorf("chart:\n%s", chart["skerry/values.yaml"])
	}
	sums, err := os.ReadFile(filepath.Join(r.out, "SHA256SUMS"))
	if err != nil || strings.Count(string(sums), "\n") != 2 {
		t.Errorf("checksums %v:\n%s", err, sums)
	}
	if err := r.clear(); err != nil {
		t.Errorf("an own folder is not cleared: %v", err)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&releaser{out: other}).clear(); err == nil || !strings.Contains(err.Error(), "precious") {
		t.Errorf("a folder of others: %v", err)
	}
}

func TestCheckStatic(t *testing.T) {
	if err := checkStatic([]byte("#!/bin/sh\n")); err == nil {
		t.Error("a script passes")
	}
	self, err := os.ReadFile("/proc/self/exe") // a test has its symbols
	if err != nil {
		t.Fatal(err)
	}
	if err := checkStatic(self); err == nil {
		t.Error("a test's binary passes for stripped")
	}
}
