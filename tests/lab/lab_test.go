package lab

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newLab(t *testing.T) *Lab {
	t.Helper()
	l, err := New(Config{Dir: t.TempDir(), BinDir: t.TempDir(), Name: "unit", PortBase: 20000, Net: 90})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestNewChecksConfig(t *testing.T) {
	good := Config{Dir: "d", BinDir: "b", Name: "x", PortBase: 20000, Net: 1}
	tests := []struct {
		want string
		bad  func(*Config)
	}{
		{"Dir is empty", func(c *Config) { c.Dir = "" }},
		{"BinDir is empty", func(c *Config) { c.BinDir = "" }},
		{"Name is empty", func(c *Config) { c.Name = "" }},
		{"longer than 8", func(c *Config) { c.Name = "ninechars" }},
		{"PortBase 80", func(c *Config) { c.PortBase = 80 }},
		{"Net 0", func(c *Config) { c.Net = 0 }},
	}
	for _, tt := range tests {
		c := good
		tt.bad(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want an error with %q", err, tt.want)
		}
	}
	l, err := New(good)
	if err != nil || l.Server() != "10.201.1.1:20010" {
		t.Errorf("server %s, %v", l.Server(), err)
	}
}

func TestParseStat(t *testing.T) {
	line := "4711 (a) b (c) S 12 4711 4711 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1"
	got, err := parseStat([]byte(line))
	if want := (stat{'S', 12, 987654}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2", strings.Replace(line, "987654", "x", 1)} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestParseToken(t *testing.T) {
	want := Token{"10.201.1.1:7443", "abcdef.0123456789abcdef", "sha256:00ff"}
	for _, out := range []string{
		"Run on the edge:\n  skerry join 10.201.1.1:7443 --token abcdef.0123456789abcdef --ca-hash sha256:00ff\n",
		"skerry join 10.201.1.1:7443 \\\n  --token abcdef.0123456789abcdef \\\n  --ca-hash sha256:00ff\n",
		"--token abcdef.0123456789abcdef --ca-hash sha256:00ff",
	} {
		got, err := parseToken(out, "10.201.1.1:7443")
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v", out, got, err)
		}
	}
	for _, out := range []string{"", "token created", "skerry join"} {
		if got, err := parseToken(out, ""); err == nil {
			t.Errorf("%q gave %+v", out, got)
		}
	}
}

func TestParseTraffic(t *testing.T) {
	const dev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
uplink:48735     250    0    0    0     0          0         0    97099     249    0    0    0     0       0          0
`
	got, err := parseTraffic(dev, "uplink")
	if err != nil || got != 48735+97099 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, bad := range []string{"", "uplink: 1 2 3\n", "uplink: x 2 3 4 5 6 7 8 9\n", "myuplink: 1 2 3 4 5 6 7 8 9\n"} {
		if n, err := parseTraffic(bad, "uplink"); err == nil {
			t.Errorf("got %d of %q", n, bad)
		}
	}
}

func TestSetKeys(t *testing.T) {
	got := setKeys("apiVersion: v1\nserver: a\nlabels:\n  server: kept\n", map[string]string{"server": "b"})
	if want := "apiVersion: v1\nlabels:\n  server: kept\nserver: b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseMounts(t *testing.T) {
	mounts := "none /lab tmpfs rw 0 0\nnone /lab/a tmpfs rw 0 0\nnone /lab/a/b\\040c tmpfs rw 0 0\nnone /laboratory/x tmpfs rw 0 0\n"
	if d := cmp.Diff([]string{"/lab/a/b c", "/lab/a"}, parseMounts(mounts, "/lab")); d != "" {
		t.Error(d)
	}
}

func TestUntil(t *testing.T) {
	n := 0
	err := Until(t.Context(), time.Minute, "three", func() error {
		if n++; n < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil || n != 3 {
		t.Errorf("%v after %d calls", err, n)
	}
	err = Until(t.Context(), time.Millisecond, "never", func() error { return errors.New("no such thing") })
	if err == nil || err.Error() != "gave up waiting for never after 1ms: no such thing" {
		t.Errorf("got %v", err)
	}
	broken := errors.New("broken")
	if err := Until(t.Context(), time.Hour, "never", func() error { return Final(broken) }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Until(ctx, time.Hour, "never", func() error { return broken }); err == nil {
		t.Error("an ended context does not end the wait")
	}
}

func TestDaemon(t *testing.T) {
	l := newLab(t)
	d := daemon{name: "sleeper", args: []string{"sh", "-c", "echo begun; exec sleep 1000"}}
	if err := l.start(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	pid, ok := l.PID("sleeper")
	if !ok {
		t.Fatal("it does not run")
	}
	if err := l.start(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if again, _ := l.PID("sleeper"); again != pid {
		t.Error("a second start made another process")
	}
	if err := Until(t.Context(), 10*time.Second, "its output", func() error {
		if lastLine(l.LogFile("sleeper")) != "begun" {
			return errors.New("no output")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	pids, err := strays(l.mark())
	if err != nil || !slices.Contains(pids, pid) {
		t.Errorf("strays %v, %v, want %d among them", pids, err, pid)
	}
	for range 2 { // the second time there is nothing to do
		if err := l.stop(t.Context(), "sleeper", 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
}

func TestDaemonBuiltAnew(t *testing.T) {
	l := newLab(t)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "sleeper")
	var pids []int
	for range 2 {
		// As go build does: a new file under the old name.
		if err := os.WriteFile(bin+".new", program, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(bin+".new", bin); err != nil {
			t.Fatal(err)
		}
		if err := l.start(t.Context(), daemon{name: "sleeper", args: []string{bin, "1000"}}); err != nil {
			t.Fatal(err)
		}
		pid, ok := l.PID("sleeper")
		if !ok {
			t.Fatal("it does not run")
		}
		pids = append(pids, pid)
	}
	if pids[0] == pids[1] {
		t.Error("the old program still runs")
	}
	if err := l.stop(t.Context(), "sleeper", 0); err != nil {
		t.Error(err)
	}
}

func TestDaemonThatEnds(t *testing.T) {
	l := newLab(t)
	if err := l.start(t.Context(), daemon{name: "brief", args: []string{"sh", "-c", "echo no luck >&2; exit 3"}}); err != nil {
		t.Fatal(err)
	}
	err := l.ready(t.Context(), "brief", time.Minute, func() error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "brief ended: no luck (log: ") {
		t.Errorf("got %v", err)
	}
}

// TestForeignProcess checks that a pid which now belongs to another process is
// left alone.
func TestForeignProcess(t *testing.T) {
	l := newLab(t)
	other := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Wait() }()
	defer func() { _ = other.Process.Kill() }()
	id, _, err := observe(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	id.StartTicks--
	b, err := json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(l.Path("run"), 0o755), os.WriteFile(l.pidFile("old"), b, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.PID("old"); ok {
		t.Error("it counts as running")
	}
	if err := errors.Join(l.stop(t.Context(), "old", time.Second), killStrays(t.Context(), l.mark())); err != nil {
		t.Error(err)
	}
	if !alive(identity{PID: id.PID, StartTicks: id.StartTicks + 1, Boot: id.Boot}) {
		t.Error("the other process was killed")
	}
}

func TestKillStrays(t *testing.T) {
	l := newLab(t)
	// The child of a marked process has lost the marker, as containers have.
	if err := l.start(t.Context(), daemon{name: "shim", args: []string{"sh", "-c", "env -i sleep 1000 & wait"}}); err != nil {
		t.Fatal(err)
	}
	pids := []int{}
	if err := Until(t.Context(), 10*time.Second, "two processes", func() (err error) {
		if pids, err = strays(l.mark()); len(pids) != 2 {
			return errors.Join(err, errors.New("not two"))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := killStrays(t.Context(), l.mark()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if _, state, err := observe(pid); err == nil && state != 'Z' {
			t.Errorf("process %d still runs", pid)
		}
	}
}

func TestDownOfNothing(t *testing.T) {
	l := newLab(t)
	for range 2 {
		if err := l.Down(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestClaim(t *testing.T) {
	l, other := newLab(t), newLab(t)
	t.Cleanup(func() {
		if err := other.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	file := l.Path("thing")
	own := thing{file, []string{"rm", file}}
	put := func() {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.claim(t.Context(), l.Path("marks", "network"), own); err != nil {
		t.Fatal(err)
	}
	put()
	if err := l.start(t.Context(), daemon{name: "one", args: []string{"sleep", "1000"}}); err != nil {
		t.Fatal(err)
	}
	if err := l.claim(t.Context(), l.Path("marks", "network"), own); err != nil || !exists(file) {
		t.Errorf("what this lab has made is refused or removed: %v", err)
	}
	mark := other.Path("network")
	if err := other.claim(t.Context(), mark, own); err == nil || !strings.Contains(err.Error(), file+" is there already") || exists(mark) || !exists(file) {
		t.Errorf("got %v, want a refusal of what another lab has made", err)
	}
	if err := l.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What is left of a lab that is gone stands in nobody's way.
	if err := other.start(t.Context(), daemon{name: "one", args: []string{"sleep", "1000"}}); err != nil {
		t.Fatal(err)
	}
	if err := other.claim(t.Context(), mark, own); err != nil || exists(file) || !exists(mark) {
		t.Errorf("what a dead lab has left: %v", err)
	}
}
