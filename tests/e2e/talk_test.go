package e2e_test

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// typingPace is how often a line is typed.
const typingPace = 50 * time.Millisecond

// talk is one kubectl that runs for as long as a fault takes.
type talk struct {
	name     string
	args     []string
	code     int  // how it must end
	spdy     bool // else WebSocket
	terminal bool // on a pseudo terminal
	types    bool // lines are typed, and must come back after "ready"
	ends     bool // may end by itself
	check    func(text string) error

	cmd       *exec.Cmd
	input     io.WriteCloser
	out, errs record
	done      chan struct{} // closed when it has ended; exit is set then
	exit      int
	stop      chan struct{} // no more typing
	stopped   chan struct{}
	typed     strings.Builder // read it after stopped
}

func (k *talk) start(t *testing.T) {
	t.Helper()
	k.cmd = theLab.Command(t.Context(), k.args...)
	k.cmd.Env = append(k.cmd.Environ(), fmt.Sprintf("KUBECTL_REMOTE_COMMAND_WEBSOCKETS=%t", !k.spdy))
	k.cmd.WaitDelay = time.Second
	k.cmd.Stderr = &k.errs
	k.done, k.stop, k.stopped = make(chan struct{}), make(chan struct{}), make(chan struct{})
	shown := make(chan struct{}) // all output was read
	if k.terminal {
		f, err := pty.Start(k.cmd)
		must(t, err)
		t.Cleanup(func() { _ = f.Close() })
		k.input = f
		go func() {
			defer close(shown)
			_, _ = io.Copy(&k.out, f)
		}()
	} else {
		k.cmd.Stdout = &k.out
		input, err := k.cmd.StdinPipe()
		must(t, err)
		k.input = input
		must(t, k.cmd.Start())
		close(shown) // Wait sees to it
	}
	go func() {
		defer close(k.done)
		_ = k.cmd.Wait() // ProcessState has it
		<-shown
		k.exit = k.cmd.ProcessState.ExitCode()
	}()
	if k.types {
		go k.typeLines()
	} else {
		close(k.stopped)
	}
}

// typeLines types numbered lines, from the moment on that somebody reads them.
func (k *talk) typeLines() {
	defer close(k.stopped)
	tick := time.NewTicker(typingPace)
	defer tick.Stop()
	for i := 0; ; {
		select {
		case <-k.stop:
			return
		case <-k.done:
			return
		case <-tick.C:
			if k.out.length() == 0 {
				continue
			}
			i++
			line := fmt.Sprintf("typed %d\n", i)
			k.typed.WriteString(line)
			if _, err := io.WriteString(k.input, line); err != nil {
				return // it has ended, and its output is not what was typed
			}
		}
	}
}

// stopTyping ends what the command reads, and makes what was typed what it must
// have said.
func (k *talk) stopTyping(t *testing.T) {
	t.Helper()
	close(k.stop)
	<-k.stopped
	if k.terminal {
		_, err := io.WriteString(k.input, "\x04") // Ctrl-D
		must(t, err)
	} else if err := k.input.Close(); err != nil && !k.ended() {
		t.Error(err)
	}
	if k.types {
		want := "ready\n" + k.typed.String()
		if k.terminal {
			want = strings.ReplaceAll(want, "\n", "\r\n")
		}
		k.check = func(text string) error { return same(text, want) }
	}
}

func (k *talk) ended() bool {
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

func (k *talk) wait(t *testing.T) {
	t.Helper()
	select {
	case <-k.done:
	case <-time.After(patience):
		t.Fatalf("%s does not end; it said %d bytes, and %q", k.name, k.out.length(), k.errs.text())
	}
}

// record keeps what a command says, and when.
type record struct {
	mu     sync.Mutex // guards the following fields
	bytes  strings.Builder
	pieces []time.Time
}

// Write implements io.Writer.
func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pieces = append(r.pieces, time.Now())
	return r.bytes.Write(b)
}

func (r *record) length() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes.Len()
}

func (r *record) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes.String()
}

// longestGap is the longest time without a byte that ended after since.
func (r *record) longestGap(since time.Time) (longest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := 1; i < len(r.pieces); i++ {
		if r.pieces[i].After(since) {
			longest = max(longest, r.pieces[i].Sub(r.pieces[i-1]))
		}
	}
	return longest
}

// firstAfter is how long after at the next byte came.
func (r *record) firstAfter(at time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pieces {
		if p.After(at) {
			return p.Sub(at)
		}
	}
	return 0
}
