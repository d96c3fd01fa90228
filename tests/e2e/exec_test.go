package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"
)

func TestExecExitCodes(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	runPod(t, newPod(ns, "codes", edge1, shell("main", idle), shell("other", idle)))
	tests := []struct {
		name        string
		args        []string
		code        int
		out, stderr string
	}{
		{"zero", []string{"true"}, 0, "", ""},
		{"seven", []string{"sh", "-c", "echo out; echo err >&2; exit 7"}, 7, "out\n", "err\n"},
		{"one", []string{"false"}, 1, "", ""},
		{"the highest", []string{"sh", "-c", "exit 255"}, 255, "", ""},
		{"killed by a signal", []string{"sh", "-c", "kill -9 $$"}, 137, "", ""},
		{"not found by the shell", []string{"sh", "-c", "no-such-command"}, 127, "", "not found"},
		{"not executable", []string{"sh", "-c", "/etc/passwd"}, 126, "", "Permission denied"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := try(t, append([]string{"-n", ns, "exec", "codes", "-c", "main", "--"}, tt.args...)...)
			if r.code != tt.code || r.out != tt.out || !strings.Contains(r.stderr, tt.stderr) {
				t.Errorf("exit code %d, output %q, errors %q; want %d, %q, %q", r.code, r.out, r.stderr, tt.code, tt.out, tt.stderr)
			}
		})
	}
	t.Run("not found by the runtime", func(t *testing.T) {
		r := try(t, "-n", ns, "exec", "codes", "-c", "main", "--", "/no/such/program")
		if r.code == 0 || !strings.Contains(r.stderr, "no such file") {
			t.Errorf("exit code %d, errors %q", r.code, r.stderr)
		}
	})
	t.Run("no such container", func(t *testing.T) {
		if r := try(t, "-n", ns, "exec", "codes", "-c", "third", "--", "true"); r.code != 1 || r.stderr == "" {
			t.Errorf("exit code %d, errors %q", r.code, r.stderr)
		}
	})
	t.Run("in the other container", func(t *testing.T) {
		kubectl(t, "-n", ns, "exec", "codes", "-c", "other", "--", "touch", "/here")
		if r := try(t, "-n", ns, "exec", "codes", "-c", "main", "--", "test", "-e", "/here"); r.code != 1 {
			t.Errorf("exit code %d: both containers have one file system", r.code)
		}
	})
}

func TestExecStdin(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	runPod(t, newPod(ns, "stdin", edge1, shell("main", idle)))
	data := make([]byte, 10<<20)
	chacha := rand.NewChaCha8([32]byte{1})
	_, err := chacha.Read(data)
	must(t, err)
	for _, tt := range []struct{ name, env string }{
		{"WebSocket", "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true"},
		{"SPDY", "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := theLab.Command(t.Context(), "-n", ns, "exec", "-i", "stdin", "--", "sh", "-c", "cat; exit 7")
			cmd.Env = append(cmd.Environ(), tt.env)
			var errs strings.Builder
			cmd.Stdin, cmd.Stderr = bytes.NewReader(data), &errs
			got, err := cmd.Output()
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 7 {
				t.Fatalf("got %v, want exit code 7: %s", err, errs.String())
			}
			if len(got) != len(data) || sha256.Sum256(got) != sha256.Sum256(data) {
				t.Errorf("%d bytes came back, other ones than the %d sent", len(got), len(data))
			}
		})
	}
}

func TestExecManyAtOnce(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	runPod(t, newPod(ns, "many", edge1, shell("main", idle)))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			want := fmt.Sprintf("number %d\n", i)
			if r := try(t, "-n", ns, "exec", "many", "--", "sh", "-c", "sleep 0.5; echo number "+fmt.Sprint(i)); r.out != want {
				t.Errorf("got %q, %v, want %q", r.out, r.err, want)
			}
		})
	}
	wg.Wait()
}

// terminal is a kubectl in a pseudo terminal.
type terminal struct {
	file *os.File
	mu   sync.Mutex // guards the following field
	seen strings.Builder
}

func openTerminal(t *testing.T, cmd *exec.Cmd, size *pty.Winsize) *terminal {
	t.Helper()
	f, err := pty.StartWithSize(cmd, size)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	term := &terminal{file: f}
	go func() { _, _ = io.Copy(term, f) }()
	return term
}

// Write collects what the terminal shows.
func (s *terminal) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.Write(b)
}

func (s *terminal) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.String()
}

func (s *terminal) typeLine(t *testing.T, line string) {
	t.Helper()
	_, err := fmt.Fprint(s.file, line+"\n")
	must(t, err)
}

// waitSize has the shell say how large its terminal is until that is want, its rows
// and columns. The echo of what is typed does not match: it has no two numbers.
func (s *terminal) waitSize(t *testing.T, want string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^` + want + `\r?$`)
	eventually(t, "a terminal of "+want, func() error {
		s.typeLine(t, "stty size")
		if !line.MatchString(s.text()) {
			return fmt.Errorf("the terminal shows %q", s.text())
		}
		return nil
	})
}

func TestExecTerminalResize(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	runPod(t, newPod(ns, "terminal", edge1, shell("main", idle)))
	cmd := theLab.Command(t.Context(), "-n", ns, "exec", "-it", "terminal", "--", "sh")
	term := openTerminal(t, cmd, &pty.Winsize{Rows: 40, Cols: 100})
	term.waitSize(t, "40 100")
	must(t, pty.Setsize(term.file, &pty.Winsize{Rows: 30, Cols: 80}))
	term.waitSize(t, "30 80")
	term.typeLine(t, "exit 5")
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("it ends with %v; the terminal shows %q", err, term.text())
	}
}
