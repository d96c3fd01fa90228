package results

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCommand(t *testing.T) {
	for want, flags := range map[string][]string{
		"make bench-x":                          nil,
		`make bench-x BENCHFLAGS="-rounds 3"`:   {"-rounds", "3"},
		`make bench-x BENCHFLAGS="-run nat -q"`: {"-run", "nat", "-q"},
	} {
		if got := command("bench-x", flags); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestRecorder(t *testing.T) {
	dir := t.TempDir()
	for _, median := range []float64{5, 7} {
		r, err := Begin(t.Context(), dir, "bench-x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Keep([]Row{row("x", "A", "skerry", "m", median), row("x", "A", "skerry", "n", 1)}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Rows) != 2 || got.Rows[0].Median != 7 || got.Rows[0].Commit == "" {
		t.Errorf("rows are %+v", got.Rows)
	}
	if len(got.Runs) == 0 || got.Runs[len(got.Runs)-1].Command != "make bench-x" {
		t.Errorf("runs are %+v", got.Runs)
	}
	if err := os.WriteFile(filepath.Join(dir, runsFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Begin(t.Context(), dir, "bench-x", nil); err == nil {
		t.Error("a broken file is found only after the run")
	}
}
