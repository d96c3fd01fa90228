package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Registry serves the images of a layout to runtimes that pull, for every registry
// that the names of its images begin with: a runtime that has it as the mirror of
// all says in the query which registry is meant. What the layout lacks is not found.
type Registry struct {
	dir       string
	manifests map[string]Descriptor // by full name with tag, and by digest
}

// NewRegistry reads the index of a layout.
func NewRegistry(dir string) (*Registry, error) {
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, err
	}
	var ix index
	if err := json.Unmarshal(b, &ix); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	r := &Registry{dir: dir, manifests: map[string]Descriptor{}}
	for _, d := range ix.Manifests {
		r.manifests[d.Annotations[refName]] = d
		r.manifests[d.Digest] = d
	}
	if len(ix.Manifests) == 0 {
		return nil, errors.New("no images in " + dir)
	}
	return r, nil
}

// Refs are the names of the images.
func (r *Registry) Refs() []string {
	var refs []string
	for ref := range r.manifests {
		if !strings.HasPrefix(ref, "sha256:") {
			refs = append(refs, ref)
		}
	}
	return refs
}

// ServeHTTP answers what pulling needs of the OCI distribution specification.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	name, kind, ref := split(req.URL.Path)
	switch {
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
	case req.URL.Path == "/v2/":
		w.WriteHeader(http.StatusOK)
	case kind == "manifests":
		d, ok := r.manifests[ref]
		if !strings.HasPrefix(ref, "sha256:") {
			d, ok = r.manifests[req.URL.Query().Get("ns")+"/"+name+":"+ref]
		}
		if !ok {
			fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
			return
		}
		w.Header().Set("Content-Type", d.MediaType)
		r.serve(w, req, d.Digest)
	case kind == "blobs":
		w.Header().Set("Content-Type", "application/octet-stream")
		r.serve(w, req, ref)
	default:
		fail(w, http.StatusNotFound, "NAME_UNKNOWN")
	}
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request, digest string) {
	f, err := os.Open(blob(r.dir, digest))
	if err != nil {
		fail(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		fail(w, http.StatusInternalServerError, "UNKNOWN")
		return
	}
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, req, "", st.ModTime(), f)
}

// split takes /v2/NAME/manifests/REF or /v2/NAME/blobs/DIGEST apart. A tag has no
// slash, and a digest is nothing that could lead out of the folder of blobs.
func split(path string) (name, kind, ref string) {
	m := regexp.MustCompile(`^/v2/([a-z0-9._/-]+)/(manifests/[A-Za-z0-9_][A-Za-z0-9._-]*|(?:manifests|blobs)/sha256:[0-9a-f]{64})$`).FindStringSubmatch(path)
	if m == nil {
		return "", "", ""
	}
	kind, ref, _ = strings.Cut(m[2], "/")
	return m[1], kind, ref
}

// fail answers as the specification has it; a runtime shows the code.
func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Del("Content-Type")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors": [{"code": %q}]}`, code)
}
