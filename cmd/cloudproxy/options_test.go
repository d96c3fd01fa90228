package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

func TestFlagsWinOverFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("listen: :1\nadminListen: :2\nadvertiseAddresses: [x, y]\ndrain: 5s\nmaxMemory: 2Gi\nmaxStreams: 9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := defaultOptions()
	f := pflag.NewFlagSet("t", pflag.ContinueOnError)
	o.addFlags(f)
	if err := f.Parse([]string{"--listen", ":9", "--max-streams", "8", "--max-edge-memory", "16Mi", "--advertise-address", "a,[2001:db8::1]:7443"}); err != nil {
		t.Fatal(err)
	}
	if err := o.loadFile(file, f); err != nil {
		t.Fatal(err)
	}
	want := defaultOptions()
	want.Listen, want.AdminListen, want.AdvertiseAddresses = ":9", ":2", []string{"a", "[2001:db8::1]:7443"}
	want.Drain.Duration = 5 * time.Second
	want.MaxMemory, want.MaxEdgeMemory, want.MaxStreams = quantity("2Gi"), quantity("16Mi"), 8
	if d := cmp.Diff(want, o); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestFileErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("lissten: :1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := defaultOptions()
	f := pflag.NewFlagSet("t", pflag.ContinueOnError)
	o.addFlags(f)
	if err := o.loadFile(file, f); err == nil || !strings.Contains(err.Error(), "lissten") {
		t.Errorf("unknown key: got %v, want an error that names it", err)
	}
	if err := o.loadFile(file+".none", f); err == nil || !strings.Contains(err.Error(), "c.yaml.none") {
		t.Errorf("missing file: got %v", err)
	}
}

// FuzzFile: whatever the file says, it is refused in one line, or read.
func FuzzFile(f *testing.F) {
	f.Add([]byte("listen: :1\ndrain: 5s\nmaxMemory: 2Gi\n"))
	f.Add([]byte("drain: [\n"))
	f.Add([]byte("maxMemory: 1e999Ki"))
	file := filepath.Join(f.TempDir(), "c.yaml")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		o := defaultOptions()
		flags := pflag.NewFlagSet("t", pflag.ContinueOnError)
		o.addFlags(flags)
		if err := o.loadFile(file, flags); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("more than one line: %q", err)
		}
	})
}
