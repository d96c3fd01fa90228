package store

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var kills = flag.Int("kills", 50, "how often TestKill kills its child")

// TestKill kills a process that writes with the store, again and again, at any
// moment, opening included. What it has acknowledged is there.
func TestKill(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("SKERRY_STORE_KILL"); dir != "" {
		writeForever(t, dir)
		return
	}
	n := *kills
	if testing.Short() {
		n = min(n, 10)
	}
	dir := filepath.Join(t.TempDir(), "db")
	rng := rand.New(rand.NewPCG(10, 11))
	var acked uint64
	opened := 0
	for i := range n {
		last, ok := killOnce(t, dir, time.Duration(1+rng.IntN(60))*time.Millisecond)
		acked = max(acked, last)
		if ok {
			opened++
		}
		s, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		checkWritten(t, s, acked)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := filepath.Glob(dir + ".damaged*"); err != nil || len(list) > 0 {
		t.Errorf("a kill was taken for damage: %v, %v", list, err)
	}
	t.Logf("%d kills, %d of them after the store was open, %d writes acknowledged", n, opened, acked)
	if acked == 0 {
		t.Error("nothing was ever written")
	}
}

// killOnce runs a child and kills it a while after it has begun to write, or
// after it was started. It returns the last write that the child was told is
// there.
func killOnce(t *testing.T, dir string, after time.Duration) (acked uint64, opened bool) {
	t.Helper()
	cmd, lines := startWriter(t, dir)
	kill := func() { _ = cmd.Process.Kill() }
	timer := time.AfterFunc(2*time.Second+after, kill)
	if after < 10*time.Millisecond { // while it starts
		timer.Reset(10 * after)
	}
	for lines.Scan() {
		if lines.Text() == "open" && !opened {
			opened = true
			timer.Reset(after)
		}
		if seq, ok := strings.CutPrefix(lines.Text(), "acked "); ok {
			var err error
			if acked, err = strconv.ParseUint(seq, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	timer.Stop()
	return acked, opened
}

// startWriter starts a child that writes until it is killed, and gives what it
// says.
func startWriter(t *testing.T, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$")
	cmd.Env = append(os.Environ(), "SKERRY_STORE_KILL="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// TestTwoProcesses opens what another process has open.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "db")
	cmd, lines := startWriter(t, dir)
	for lines.Scan() && lines.Text() != "acked 1" {
	}
	for range 3 {
		if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrLocked) {
			t.Fatalf("Open: %v, want ErrLocked", err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	checkWritten(t, s, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// writeForever is the child. Write n sets everything that is there to n.
func writeForever(t *testing.T, dir string) {
	t.Helper()
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("open")
	n := uint64(0)
	if v, err := s.Meta("n"); err == nil {
		if n, err = strconv.ParseUint(string(v), 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(uint64(os.Getpid()), 12))
	for {
		n++
		text := fmt.Append(nil, n)
		b := Batch{Upserts: []Object{
			{Key: "pods/default/p", Version: string(text), Value: make([]byte, rng.IntN(40<<10))},
			{Key: "secrets/default/s", Version: string(text), Value: text},
		}}
		err := s.Apply(b)
		if err == nil {
			_, err = s.Outbox().PutKeyed(2, "pods/default/p", text)
		}
		if err == nil {
			_, err = s.Outbox().Append(4, "event", text)
		}
		if err == nil {
			err = s.SetMeta("n", text)
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("acked", n)
	}
}

// checkWritten wants what write n made, or of the next what it got to.
func checkWritten(t *testing.T, s *Store, n uint64) {
	t.Helper()
	if n == 0 {
		return
	}
	number := func(text string) uint64 {
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	secret, err := s.Get("secrets/default/s")
	if err != nil || number(string(secret.Value)) < n || secret.Version != string(secret.Value) {
		t.Fatalf("secret is %v, %v, want that of write %d or later", secret, err, n)
	}
	if pod, err := s.Get("pods/default/p"); err != nil || pod.Version != secret.Version {
		t.Fatalf("half a batch: pod is of %s, %v, secret of %s", pod.Version, err, secret.Version)
	}
	events, status := map[string]int{}, ""
	for _, m := range entries(t, s.Outbox().Next) {
		if m.Subject == 2 {
			status += string(m.Value)
		} else {
			events[string(m.Value)]++
		}
	}
	if number(status) < n {
		t.Fatalf("status is %s, want that of write %d or later", status, n)
	}
	if st := s.Outbox().Stats(); st.Dropped > 0 {
		return // the oldest are gone, and counted
	}
	for i := uint64(1); i <= n; i++ {
		if events[fmt.Sprint(i)] == 0 {
			t.Fatalf("event of write %d of %d is lost", i, n)
		}
	}
}
