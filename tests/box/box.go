package box

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/skerry-io/skerry/tests/image"
)

// network is of the pods in a box, which has nothing else.
const network = `{"cniVersion": "0.4.0", "name": "box", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "%[1]s/ipam", "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`

// Prepare gives a directory with box.sh, which is script; config.toml, which is config with
// the directory for %[1]s; the pods' network; busybox.tar, an image for containers and
// sandboxes; and the tests of packages of this module, by the name of the program.
func Prepare(t *testing.T, script []byte, config string, tests map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // root of a pod may be nobody, and has to find its files
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := image.Busybox(t.Context(), "docker.io/library/busybox:test", "/bin/sleep", "1000000") // for sandboxes, too
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"box.sh":              script,
		"config.toml":         fmt.Appendf(nil, config, dir),
		"cni/10-box.conflist": fmt.Appendf(nil, network, dir),
		"busybox.tar":         archive,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, pkg := range tests {
		build := exec.CommandContext(t.Context(), "go", "test", "-c", "-trimpath", "-buildvcs=false", "-tags=grpcnotrace", "-o", filepath.Join(dir, name), "github.com/skerry-io/skerry/"+pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as all else is built
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	return dir
}
