package command

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/bench/results"
)

func TestChoose(t *testing.T) {
	all := []string{"one", "two", "three"}
	for names, want := range map[string][]string{"": all, "three,one": {"one", "three"}, "two": {"two"}} {
		if got, err := Choose("run", names, all); err != nil || !cmp.Equal(got, want) {
			t.Errorf("Choose(%q) = %q, %v, want %q", names, got, err, want)
		}
	}
	for _, bad := range []string{"four", "one,", ","} {
		if got, err := Choose("run", bad, all); err == nil {
			t.Errorf("Choose(%q) = %q", bad, got)
		}
	}
}

func TestParts(t *testing.T) {
	var ran string
	p := Program{
		Name: "x",
		Run:  func(context.Context, []string, *slog.Logger) error { ran = "bench"; return nil },
		Parts: map[string]func(context.Context, io.Reader, io.Writer) error{
			"agent": func(context.Context, io.Reader, io.Writer) error { ran = "agent"; return nil },
		},
	}
	for _, tt := range []struct {
		args []string
		want string
	}{{nil, "bench"}, {[]string{"agent"}, "agent"}, {[]string{"-run", "agent"}, "bench"}, {[]string{"other"}, "bench"}} {
		if err := p.run(t.Context(), tt.args); err != nil || ran != tt.want {
			t.Errorf("%q ran the %s, %v", tt.args, ran, err)
		}
	}
}

// What has failed writes nothing, and is taken down all the same.
func TestKeep(t *testing.T) {
	for name, fails := range map[string]error{"all is well": nil, "a failure": errors.New("broken")} {
		t.Run(name, func(t *testing.T) {
			down := false
			m := Measurement{
				Name: "x", Out: t.TempDir(), Patience: time.Minute,
				Measure: func(context.Context) ([]results.Row, error) {
					return []results.Row{{Bench: "x", Link: results.NoLink, System: "skerry", Metric: "m", Unit: "ms", N: 1}}, fails
				},
				Down: func(context.Context) error { down = true; return nil },
			}
			_, err := m.Keep(t.Context(), slog.New(slog.DiscardHandler))
			_, statErr := os.Stat(filepath.Join(m.Out, "results.json"))
			if !errors.Is(err, fails) || !down || (statErr == nil) != (fails == nil) {
				t.Errorf("%v, down %t, results: %v", err, down, statErr)
			}
		})
	}
}
