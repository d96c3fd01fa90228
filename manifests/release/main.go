// Release builds what a release of Skerry consists of, with nothing but the Go
// toolchain: binaries for each platform, the proxy's image, the Helm chart, plain
// manifests, and checksums of all. The same sources give the same files.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/skerry-io/skerry/manifests"
	"github.com/skerry-io/skerry/manifests/release/oci"
)

// imageName is where the image is to be pushed; the version is its tag.
const imageName = "ghcr.io/skerry-io/cloudproxy"

// proxy is the one program that has an image.
const proxy = "cloudproxy"

func programs() []string { return []string{proxy, "edgeagent", "skerry"} }

// target is a platform, and how Go calls it.
type target struct {
	oci.Platform

	goarm string
}

func (t target) name() string { return t.OS + "-" + t.Arch + t.Variant }

func targets() []target {
	return []target{
		{oci.Platform{OS: "linux", Arch: "amd64"}, ""},
		{oci.Platform{OS: "linux", Arch: "arm64"}, ""},
		{oci.Platform{OS: "linux", Arch: "arm", Variant: "v7"}, "7"},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) //nolint:forbidigo // main makes the first context
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	version := flags.String("version", "", "the version, such as v0.1.0")
	out := flags.String("out", "dist", "the folder; what an earlier run has left in it is removed")
	only := flags.String("only", "", "one platform, such as linux-amd64; all by default")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *version == "" {
		return errors.New("-version is missing")
	}
	r := &releaser{version: *version, out: *out}
	if err := r.clear(); err != nil {
		return err
	}
	image := oci.Image{
		Ref: imageName + ":" + tag(*version), Name: proxy,
		Labels: map[string]string{"org.opencontainers.image.title": proxy, "org.opencontainers.image.version": *version},
	}
	for _, t := range targets() {
		if *only != "" && *only != t.name() {
			continue
		}
		fmt.Println("building for " + t.name())
		built, err := r.build(ctx, t)
		if err != nil {
			return err
		}
		image.Programs = append(image.Programs, oci.Program{Platform: t.Platform, Data: built[proxy]})
	}
	if len(image.Programs) == 0 {
		return fmt.Errorf("-only %s is no platform of a release", *only)
	}
	if err := r.image(image); err != nil {
		return err
	}
	if err := r.chart(image.Ref); err != nil {
		return err
	}
	return r.checksums()
}

// tag is a version as an image's tag may be.
func tag(version string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' {
			return c
		}
		return '-'
	}, version)
}

type releaser struct {
	version, out string
	files        []string // in out, as made
}

// marker makes a folder ours: nothing is removed from one without it.
const marker = ".skerry-dist"

func (r *releaser) clear() error {
	entries, err := os.ReadDir(r.out)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(r.out, 0o755); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(r.out, marker)); err != nil && len(entries) > 0 {
		return fmt.Errorf("%s holds %s and was not made by a release: name another folder by -out", r.out, entries[0].Name())
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(r.out, e.Name())); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(r.out, marker), nil, 0o644)
}

// build makes the programs of a platform and packs them; it gives their bytes.
func (r *releaser) build(ctx context.Context, t target) (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "skerry-release-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is in the folder for such
	args := []string{"build", "-trimpath", "-buildvcs=false", "-tags=grpcnotrace", "-ldflags", "-s -w -X main.version=" + r.version, "-o", dir + "/"}
	for _, p := range programs() {
		args = append(args, "./cmd/"+p)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0", "GOOS="+t.OS, "GOARCH="+t.Arch, "GOARM="+t.goarm)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("build for %s: %w", t.name(), err)
	}
	built := map[string][]byte{}
	var files []file
	for _, p := range programs() {
		data, err := os.ReadFile(filepath.Join(dir, p))
		if err != nil {
			return nil, err
		}
		if err := checkStatic(data); err != nil {
			return nil, fmt.Errorf("%s for %s: %w", p, t.name(), err)
		}
		built[p] = data
		files = append(files, file{name: p, mode: 0o755, data: data})
		fmt.Printf("  %-10s %5.1f MB\n", p, float64(len(data))/1e6)
	}
	// kubectl finds its plugins by name, and how to complete them.
	files = append(files, file{name: "kubectl-skerry", link: "skerry"},
		file{name: "kubectl_complete-skerry", mode: 0o755, data: []byte("#!/bin/sh\nexec skerry __complete \"$@\"\n")})
	packed, err := pack(files)
	if err != nil {
		return nil, err
	}
	return built, r.add("skerry-"+tag(r.version)+"-"+t.name()+".tar.gz", packed)
}

func (r *releaser) image(img oci.Image) error {
	name := "cloudproxy-" + tag(r.version) + "-image.tar"
	f, err := os.Create(filepath.Join(r.out, name))
	if err != nil {
		return err
	}
	if err := errors.Join(oci.Write(f, img), f.Close()); err != nil {
		return err
	}
	r.files = append(r.files, name)
	return nil
}

// chart packs the Helm chart, and renders it once for those who do without.
func (r *releaser) chart(image string) error {
	chart, err := manifests.Chart(r.version)
	if err != nil {
		return err
	}
	v, err := manifests.DefaultValues()
	if err != nil {
		return err
	}
	var files []file
	for _, f := range chart {
		if f.Name == "values.yaml" {
			f.Data = []byte(strings.Replace(string(f.Data), v.Image, image, 1))
		}
		files = append(files, file{name: "skerry/" + f.Name, mode: 0o644, data: f.Data})
	}
	packed, err := pack(files)
	if err != nil {
		return err
	}
	if err := r.add("skerry-chart-"+tag(r.version)+".tgz", packed); err != nil {
		return err
	}
	v.Image, v.AdvertiseAddresses = image, []string{"proxy.example.com:7443"}
	yaml, err := manifests.Render("", v)
	if err != nil {
		return err
	}
	return r.add("skerry-"+tag(r.version)+".yaml", yaml)
}
