package userns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The program is a real process that says what each case tells it to.
func TestSubordinate(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		want   Span
		err    string
	}{
		"both the same": {`[ "$*" = kubelet ] || [ "$*" = "-g kubelet" ] || exit 9; echo "0: kubelet 65536 7208960"`, Span{65536, 7208960}, ""},
		"not the same":  {`[ "$1" = -g ] && echo "0: kubelet 65536 65536" || echo "0: kubelet 131072 65536"`, Span{}, "must be the same"},
		"two":           {`printf '0: kubelet 65536 65536\n1: kubelet 262144 65536\n'`, Span{}, "not one range"},
		"none":          {`echo "Error fetching ranges" >&2; exit 1`, Span{}, "getsubids kubelet: exit status 1: Error fetching ranges"},
		"no groups":     {`[ "$1" = -g ] && exit 1; echo "0: kubelet 65536 65536"`, Span{}, "getsubids -g kubelet: exit status 1"},
		"no number":     {`echo "0: kubelet x 65536"`, Span{}, "invalid syntax"},
		"too large":     {`echo "0: kubelet 65536 4294967296"`, Span{}, "out of range"},
		"nothing":       {`true`, Span{}, "not one range"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "getsubids")
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			got, err := subordinate(t.Context(), path)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v, %v; want %v, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		span Span
		ok   bool
	}{
		{everyone(), true},
		{Span{Size, Size}, true},
		{Span{0, Size}, false}, // root is root
		{Span{Size + 1, Size}, false},
		{Span{Size, Size + 1}, false},
		{Span{Size, 0}, false},
		{Span{1<<32 - Size, Size}, true},
		{Span{1<<32 - Size, 2 * Size}, false},
	} {
		if err := tt.span.check(); (err == nil) != tt.ok {
			t.Errorf("%v: %v", tt.span, err)
		}
	}
	// And who is given one that is none hears it.
	if _, err := New(dirs(t.TempDir()), spanOf(100000, Size)).First(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "subordinate IDs of user kubelet are 65536 from 100000") {
		t.Errorf("error %v", err)
	}
}
