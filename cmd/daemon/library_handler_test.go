package daemon

import (
	"bytes"
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

func TestLibrariesAreQuiet(t *testing.T) {
	var out bytes.Buffer
	if _, err := NewLogger(&out, "info", "text"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(klog.ClearLogger)
	klog.InfoS("Caches are synced")
	klog.Background().WithName("x").WithValues("k", "v").Info("Starting controller")
	klog.ErrorS(nil, "Watch failed")
	if got := out.String(); strings.Contains(got, "Caches") || strings.Contains(got, "Starting") || !strings.Contains(got, "Watch failed") {
		t.Errorf("log:\n%s", got)
	}
}
