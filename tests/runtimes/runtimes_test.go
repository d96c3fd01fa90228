package runtimes

import (
	"bytes"
	"context"
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry-io/skerry/tests/box"
)

//go:embed box.sh
var script []byte

// TestPods passes when all tests of edgeagent/pods against a real runtime do, those of
// users of a pod's own among them.
func TestPods(t *testing.T) {
	if os.Getenv("SKERRY_E2E") == "" {
		t.Skip("needs root and minutes: SKERRY_E2E=1")
	}
	dir := box.Prepare(t, script, box.NewerConfig, map[string]string{"pods.test": "edgeagent/pods"})
	box.Newer(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	machine := exec.CommandContext(ctx, filepath.Join(dir, "box.sh"), "outer", dir)
	machine.Env = append(os.Environ(), "TESTS=^TestReal")
	machine.WaitDelay = 10 * time.Second
	out, err := machine.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	if n := bytes.Count(out, []byte("--- PASS: TestReal")); n < 10 {
		t.Errorf("%d tests ran", n)
	}
	if !bytes.Contains(out, []byte("--- PASS: TestRealUsers ")) {
		t.Error("no pod had users of its own")
	}
}
