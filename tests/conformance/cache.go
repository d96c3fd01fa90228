package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/tests/conformance/images"
)

// keptImages is how many versions of the images are kept: checkouts differ, and one
// may serve them while another builds.
const keptImages = 3

// partImages is where they are built; who has the lock has it.
const partImages = "part-images"

// imagesTimeout bounds building them, downloads included.
const imagesTimeout = 20 * time.Minute

// buildImages gives the layout of the images, built once for each version of their
// sources and kept where the tools are.
func buildImages(ctx context.Context, bin string, log *slog.Logger) (string, error) {
	var programs []string
	for _, name := range []string{"agnhost", "nonewprivs"} {
		path, err := filepath.EvalSymlinks(filepath.Join(bin, name)) // the link's target tells the version
		if err != nil {
			return "", fmt.Errorf("make e2e-test builds it: %w", err)
		}
		programs = append(programs, path)
	}
	key, err := images.Key(programs...)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "skerry")
	unlock, err := lock(ctx, filepath.Join(cache, "images.lock")) // another checkout may be building the same
	if err != nil {
		return "", err
	}
	defer unlock()
	dir := filepath.Join(cache, "images-"+key)
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
		log.Info("building images", "dir", dir)
		ctx, cancel := context.WithTimeout(ctx, imagesTimeout)
		defer cancel()
		if err := build(ctx, dir, programs, log); err != nil {
			return "", err
		}
	}
	now := time.Now() // used now, so among the newest
	return dir, errors.Join(os.Chtimes(dir, now, now), removeOld(cache))
}

func build(ctx context.Context, dir string, programs []string, log *slog.Logger) error {
	kubernetes, err := exec.CommandContext(ctx, "go", "-C", "tests/conformance/suite", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		return fmt.Errorf("find the sources of Kubernetes: %w", err)
	}
	part := filepath.Join(filepath.Dir(dir), partImages)
	if err := os.RemoveAll(part); err != nil { // of a build that was killed
		return err
	}
	err = images.Build(ctx, images.Config{
		Dir: part, Kubernetes: strings.TrimSpace(string(kubernetes)), Agnhost: programs[0], Nonewprivs: programs[1], Log: log,
	})
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	return os.Rename(part, dir)
}

// removeOld removes all versions of the images but the newest.
func removeOld(cache string) error {
	dirs, err := filepath.Glob(filepath.Join(cache, "images-*"))
	if err != nil {
		return err
	}
	used := map[string]time.Time{}
	for _, d := range dirs {
		st, err := os.Stat(d)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		used[d] = st.ModTime()
	}
	slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(used[b].UnixNano(), used[a].UnixNano()) })
	for _, d := range dirs[min(keptImages, len(dirs)):] {
		err = errors.Join(err, os.RemoveAll(d))
	}
	return err
}

// lock waits until nobody else has the file locked.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("somebody else holds %s: %w", path, context.Cause(ctx)), f.Close())
		}
	}
	return func() { _ = f.Close() }, nil
}
