package e2e_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/tests/lab"
)

// registry serves images as the OCI distribution specification says, as far as a
// runtime that pulls asks. It has the lab's busybox under every name, and listens on
// the edge's own loopback, which a runtime speaks plain HTTP to.
type registry struct {
	addr     string
	manifest []byte
	blobs    map[string][]byte

	mu    sync.Mutex // guards the following field
	asked []string   // USER NAME of manifests, in order
}

const (
	registryUser, registryPassword = "puller", "s3cret"
	manifestType                   = "application/vnd.oci.image.manifest.v1+json"
)

func newRegistry(t *testing.T, e *lab.Edge) *registry {
	t.Helper()
	config, layer := busyboxParts(t)
	r := &registry{blobs: map[string][]byte{digestOf(config): config, digestOf(layer): layer}}
	part := func(kind string, b []byte) map[string]any {
		return map[string]any{"mediaType": kind, "digest": digestOf(b), "size": len(b)}
	}
	var err error
	r.manifest, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": part("application/vnd.oci.image.config.v1+json", config),
		"layers": []any{part("application/vnd.oci.image.layer.v1.tar", layer)},
	})
	must(t, err)
	l := listenIn(t, e.Netns())
	r.addr = l.Addr().String()
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: r}}
	s.Start()
	t.Cleanup(s.Close)
	return r
}

// ServeHTTP gives what is below /v2/private only to whoever has the password.
func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	rest := strings.TrimPrefix(req.URL.Path, "/v2/")
	if strings.HasPrefix(rest, "private/") && (user != registryUser || password != registryPassword) {
		w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
		return
	}
	dir, last := path.Split(rest)
	switch {
	case strings.HasSuffix(dir, "/manifests/"):
		r.mu.Lock()
		r.asked = append(r.asked, user+" "+strings.TrimSuffix(dir, "/manifests/"))
		r.mu.Unlock()
		w.Header().Set("Content-Type", manifestType)
		w.Header().Set("Docker-Content-Digest", digestOf(r.manifest))
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(r.manifest))
	case strings.HasSuffix(dir, "/blobs/") && r.blobs[last] != nil:
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(r.blobs[last]))
	case rest == "":
		w.WriteHeader(http.StatusOK)
	default:
		http.NotFound(w, req)
	}
}

// has says whether a user has asked for an image.
func (r *registry) has(asked string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.asked, asked)
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// busyboxParts are the configuration and the layer of the lab's busybox.
func busyboxParts(t *testing.T) (config, layer []byte) {
	t.Helper()
	raw, err := os.ReadFile(busyboxArchive())
	must(t, err)
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return config, layer
		}
		must(t, err)
		b, err := io.ReadAll(r)
		must(t, err)
		switch {
		case h.Name == "manifest.json":
		case strings.HasSuffix(h.Name, ".json"):
			config = b
		case strings.HasSuffix(h.Name, ".tar"):
			layer = b
		}
	}
}

func busyboxArchive() string {
	return theLab.Path("images", strings.NewReplacer("/", "-", ":", "-").Replace(lab.BusyboxImage)+".tar")
}

// listenIn listens on the loopback of a network namespace.
func listenIn(t *testing.T, netns string) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		// The thread is not unlocked, so that it ends with the goroutine: nobody else
		// may run in there.
		runtime.LockOSThread()
		fd, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			_ = unix.Close(fd)
		}
		if err != nil {
			done <- result{nil, fmt.Errorf("enter %s: %w", netns, err)}
			return
		}
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
		done <- result{l, err}
	}()
	r := <-done
	must(t, r.err)
	return r.l
}
