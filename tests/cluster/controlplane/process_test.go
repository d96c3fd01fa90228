package controlplane

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	tail := " S 1 9 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"
	for _, tc := range []struct {
		name, stat string
		state      byte
		ticks      uint64
		ok         bool
	}{
		{"plain", "9 (etcd)" + tail, 'S', 4711, true},
		{"parentheses and spaces in the name", "9 (a) R (b c)" + tail, 'S', 4711, true},
		{"zombie", strings.Replace("9 (etcd)"+tail, " S ", " Z ", 1), 'Z', 4711, true},
		{"cut short", "9 (etcd) S 1 9 9", 0, 0, false},
		{"no name", "9 etcd S 1", 0, 0, false},
		{"empty", "", 0, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state, ticks, err := parseStat([]byte(tc.stat))
			if (err == nil) != tc.ok || state != tc.state || ticks != tc.ticks {
				t.Errorf("got %q %d %v, want %q %d ok=%v", state, ticks, err, tc.state, tc.ticks, tc.ok)
			}
		})
	}
}

// startShell starts script as a component would be started.
func startShell(t *testing.T, p *Plane, script string) *process {
	t.Helper()
	for _, dir := range []string{"run", "log"} {
		if err := os.MkdirAll(p.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	proc, err := p.process(Etcd)
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.start("/bin/sh", []string{"-c", script}, "url"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = proc.cmd.Process.Kill() // ended already in most tests
		_ = proc.cmd.Wait()         // as above
	})
	return proc
}

func TestProcessIsFoundAgainAndStopped(t *testing.T) {
	p := newPlane(t, Config{})
	startShell(t, p, "exec sleep 60")
	again, err := p.process(Etcd)
	if err != nil {
		t.Fatal(err)
	}
	if !again.running() {
		t.Fatal("a second devcluster does not see the process")
	}
	if again.stale([]string{"-c", "exec sleep 60"}, "url") {
		t.Error("stale with the same arguments")
	}
	if !again.stale([]string{"-c", "exec sleep 61"}, "url") || !again.stale([]string{"-c", "exec sleep 60"}, "other") {
		t.Error("not stale with others")
	}
	killed, err := again.stop(t.Context(), time.Minute)
	if killed || err != nil {
		t.Errorf("stop: killed %v, error %v", killed, err)
	}
	if again.running() {
		t.Error("still running")
	}
	if killed, err := again.stop(t.Context(), time.Minute); killed || err != nil {
		t.Errorf("second stop: killed %v, error %v", killed, err)
	}
	if third, err := p.process(Etcd); err != nil || third.desc.PID != 0 {
		t.Errorf("after stop the description is %+v, error %v", third.desc, err)
	}
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	proc := startShell(t, newPlane(t, Config{}), `trap "" TERM; echo deaf; while :; do sleep 0.1; done`)
	waitFor(t, func() bool { return strings.Contains(tail(proc.log), "deaf") })
	killed, err := proc.stop(t.Context(), 100*time.Millisecond)
	if !killed || err != nil {
		t.Errorf("killed %v, error %v; want it killed", killed, err)
	}
}

func TestRecycledIDIsNotSignalled(t *testing.T) {
	innocent := exec.Command("/bin/sleep", "60")
	if err := innocent.Start(); err != nil {
		t.Fatal(err)
	}
	defer innocent.Wait()
	defer innocent.Process.Kill()

	seen, err := describe(innocent.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*description){
		"started at another time": func(d *description) { d.StartTicks-- },
		"of another boot":         func(d *description) { d.BootID = "other" },
	} {
		p := newPlane(t, Config{})
		proc, err := p.process(Etcd)
		if err != nil {
			t.Fatal(err)
		}
		proc.desc = seen.description
		change(&proc.desc)
		if proc.running() {
			t.Errorf("%s: taken for ours", name)
		}
		if _, err := proc.stop(t.Context(), time.Second); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := proc.signal(syscall.SIGKILL); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now, err := describe(innocent.Process.Pid); err != nil || now.zombie {
		t.Error("the innocent process was hit")
	}
}

func TestEarlyDeathShowsLogAndAdvice(t *testing.T) {
	p := newPlane(t, Config{})
	proc := startShell(t, p, `echo "listen tcp: bind: address already in use"; exit 3`)
	err := p.waitReady(t.Context(), &health{http.DefaultClient}, []*process{proc}, true)
	var died *DiedError
	if !errors.As(err, &died) {
		t.Fatalf("got %v, want a DiedError", err)
	}
	for _, want := range []string{"etcd died (exit status 3)", "address already in use", "--port-base", proc.log} {
		if !strings.Contains(died.Error(), want) {
			t.Errorf("no %q in: %v", want, died)
		}
	}
}

func TestPortFree(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(l.Addr().String())
	err = portFree(t.Context(), addr)
	if err == nil || !strings.Contains(err.Error(), "is taken by process") || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want the holder named", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := portFree(t.Context(), addr); err != nil {
		t.Error(err)
	}
}

func TestListening(t *testing.T) {
	table := `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:403B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1
   1: 0100007F:403B 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 222 1
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1
`
	got := map[string]bool{}
	listening(strings.NewReader(table), 16443, got)
	if len(got) != 1 || !got["111"] {
		t.Errorf("got %v, want 111 alone", got)
	}
}

func TestLockIsExclusive(t *testing.T) {
	p := newPlane(t, Config{})
	unlock, err := p.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second lock: got %v, want to wait in vain", err)
	}
	unlock()
	unlock, err = p.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestFailing(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"list of checks", "[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/rbac failed\nreadyz check failed", "waits for etcd, poststarthook/rbac"},
		{"other text", " not found\n", "not found"},
		{"long text", strings.Repeat("x", 300), strings.Repeat("x", 200)},
	} {
		if got := failing(tc.body); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got := tail(path); !strings.Contains(got, "no such file") {
		t.Errorf("missing log: %q", got)
	}
	var text strings.Builder
	for range 5000 {
		text.WriteString("a line of the log\n")
	}
	text.WriteString(strings.Repeat("y", 1000) + "\nthe end\n")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(tail(path), "\n")
	if len(lines) != 15 || lines[14] != "  | the end" || len(lines[13]) > 410 {
		t.Errorf("got %d lines, last %q", len(lines), lines[len(lines)-1])
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !done() {
		select {
		case <-deadline:
			t.Fatal("waited ten seconds in vain")
		case <-tick.C:
		}
	}
}
