package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

// oldKubectl is Debian 12's kubectl 1.20, which knows SPDY only.
func oldKubectl(t *testing.T) string {
	t.Helper()
	program := theLab.Bin("old-kubectl")
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: run `make old-kubectl`", err)
	}
	return program
}

// client is a kubectl, and how it speaks.
type client struct {
	name, binary string
	env          []string
}

// clients are a new kubectl over both of its protocols, and an old one.
func clients(t *testing.T, test func(*testing.T, client)) {
	t.Helper()
	websockets := func(on bool) []string {
		return []string{fmt.Sprintf("KUBECTL_REMOTE_COMMAND_WEBSOCKETS=%t", on), fmt.Sprintf("KUBECTL_PORT_FORWARD_WEBSOCKETS=%t", on)}
	}
	for _, c := range []client{{"WebSocket", "", websockets(true)}, {"SPDY", "", websockets(false)}, {name: "old"}} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "old" {
				c.binary = oldKubectl(t)
			}
			test(t, c)
		})
	}
}

func (c client) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := theLab.Command(ctx, args...)
	if c.binary != "" {
		cmd.Path = c.binary
		cmd.Args[0] = "kubectl"
	}
	cmd.Env = append(cmd.Environ(), c.env...)
	cmd.WaitDelay = time.Second
	return cmd
}

// stdinShell is a container that reads its input from whoever joins it.
func stdinShell(name, script string, tty bool) corev1.Container {
	c := shell(name, script)
	c.Stdin, c.TTY = true, tty
	return c
}

// joined is a kubectl attach.
type joined struct {
	cmd       *exec.Cmd
	in        io.WriteCloser
	out, errs record
}

func join(t *testing.T, c client, args ...string) *joined {
	t.Helper()
	j := &joined{cmd: c.command(t.Context(), args...)}
	j.cmd.Stdout, j.cmd.Stderr = &j.out, &j.errs
	var err error
	j.in, err = j.cmd.StdinPipe()
	must(t, err)
	must(t, j.cmd.Start())
	return j
}

func (j *joined) until(t *testing.T, text string) {
	t.Helper()
	eventually(t, text, func() error {
		if !strings.Contains(j.out.text(), text) {
			return fmt.Errorf("it says %q, %q", j.out.text(), j.errs.text())
		}
		return nil
	})
}

func (j *joined) say(t *testing.T, line string) {
	t.Helper()
	_, err := io.WriteString(j.in, line+"\n")
	must(t, err)
}

// lines answers what it is told until it is told to stop, and ends with 3.
const lines = `while read l; do [ "$l" = stop ] && break; echo "got $l"; done; echo bye; exit 3`

func TestAttach(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	clients(t, func(t *testing.T, c client) {
		t.Helper()
		name := strings.ToLower(c.name)
		p := newPod(ns, name, edge1, stdinShell("main", lines, false), shell("other", idle))
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		runPod(t, p)
		one := join(t, c, "-n", ns, "attach", "-i", name, "-c", "main")
		one.say(t, "one")
		one.until(t, "got one\n")
		two := join(t, c, "-n", ns, "attach", name, "-c", "main")
		eventually(t, "the second to join", func() error {
			one.say(t, "two")
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // between two tries
			if !strings.Contains(two.out.text(), "got two\n") {
				return fmt.Errorf("it says %q, %q", two.out.text(), two.errs.text())
			}
			return nil
		})
		// All who have joined are let go when the process ends.
		one.say(t, "stop")
		for _, j := range []*joined{one, two} {
			if err := j.cmd.Wait(); err != nil || !strings.Contains(j.out.text(), "bye\n") {
				t.Errorf("it ends with %v, having said %q, %q", err, j.out.text(), j.errs.text())
			}
		}
		waitPod(t, ns, name, func(p *corev1.Pod) error {
			for _, s := range p.Status.ContainerStatuses {
				if s.Name == "main" && s.State.Terminated != nil && s.State.Terminated.ExitCode == 3 {
					return nil
				}
			}
			return fmt.Errorf("containers %+v", p.Status.ContainerStatuses)
		})
		late := join(t, c, "-n", ns, "attach", name, "-c", "main")
		if err := late.cmd.Wait(); err == nil || !strings.Contains(late.errs.text(), "container main not found in pod "+name+"_"+ns+": it is not running") {
			t.Errorf("after its end: %v, %q", err, late.errs.text())
		}
	})
	t.Run("no such container", func(t *testing.T) {
		if r := try(t, "-n", ns, "attach", "spdy", "-c", "third"); r.code != 1 || r.stderr == "" {
			t.Errorf("exit code %d, errors %q", r.code, r.stderr)
		}
	})
}

func TestAttachTerminal(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	clients(t, func(t *testing.T, c client) {
		t.Helper()
		name := strings.ToLower(c.name)
		runPod(t, newPod(ns, name, edge1, stdinShell("main", "sh", true)))
		cmd := c.command(t.Context(), "-n", ns, "attach", "-it", name)
		term := openTerminal(t, cmd, &pty.Winsize{Rows: 40, Cols: 100})
		term.waitSize(t, "40 100")
		must(t, pty.Setsize(term.file, &pty.Winsize{Rows: 30, Cols: 80}))
		term.waitSize(t, "30 80")
		term.typeLine(t, "exit")
		if err := cmd.Wait(); err != nil {
			t.Errorf("it ends with %v; the terminal shows %q", err, term.text())
		}
	})
}

// TestRun is kubectl run, which attaches, and whose container takes its input once.
func TestRun(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	cmd := theLab.Command(t.Context(), "-n", ns, "run", "once", "-i", "--rm", "--restart=Never", "--image="+lab.BusyboxImage,
		`--overrides={"spec":{"nodeSelector":{"kubernetes.io/hostname":"`+edge1.Name+`"}}}`, "--", "sh", "-c", "cat; exit 4")
	cmd.Stdin = strings.NewReader("to be said once\n")
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 4 || !strings.HasPrefix(string(out), "to be said once\n") {
		t.Errorf("got %q, %v", out, err)
	}
}

// forwarded is a kubectl port-forward.
type forwarded struct {
	cmd  *exec.Cmd
	addr string
	errs record
	rest sync.WaitGroup
}

func forward(t *testing.T, c client, ns, pod string, port int) *forwarded {
	t.Helper()
	f := &forwarded{cmd: c.command(t.Context(), "-n", ns, "port-forward", "--address=127.0.0.1", pod, fmt.Sprintf(":%d", port))}
	f.cmd.Stderr = &f.errs
	out, err := f.cmd.StdoutPipe()
	must(t, err)
	must(t, f.cmd.Start())
	t.Cleanup(func() {
		_ = f.cmd.Process.Kill()
		f.rest.Wait()
		_ = f.cmd.Wait()
	})
	text := bufio.NewReader(out)
	line, err := text.ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %q, %q", err, line, f.errs.text())
	}
	if _, err := fmt.Sscanf(line, "Forwarding from %s ->", &f.addr); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	f.rest.Go(func() { _, _ = io.Copy(io.Discard, text) })
	return f
}

// ask opens a connection, says something, ends its side and reads all.
func (f *forwarded) ask(say []byte) ([]byte, error) {
	c, err := net.Dial("tcp", f.addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(say)
		if tcp, ok := c.(*net.TCPConn); ok {
			err = errors.Join(err, tcp.CloseWrite())
		}
		wrote <- err
	}()
	got, err := io.ReadAll(c)
	return got, errors.Join(err, <-wrote)
}

// servers are a web server, one that takes bytes, counts them at their end and only
// then answers, and one that speaks first.
func servers() corev1.Container {
	return shell("servers", `mkdir /www; echo hello > /www/index.html; httpd -p 8080 -h /www
cat > /count <<'END'
#!/bin/sh
echo "$(sha256sum)"
END
cat > /greet <<'END'
#!/bin/sh
echo ready; read l; echo "you said $l"
END
chmod +x /count /greet
nc -ll -p 8081 -e /count & nc -ll -p 8082 -e /greet & `+idle)
}

func TestPortForward(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	runPod(t, newPod(ns, "servers", edge1, servers()))
	data := make([]byte, 8<<20)
	chacha := rand.NewChaCha8([32]byte{2})
	_, err := chacha.Read(data)
	must(t, err)
	clients(t, func(t *testing.T, c client) {
		t.Helper()
		web := forward(t, c, ns, "servers", 8080)
		get := func() error {
			resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}).Get("http://" + web.addr + "/")
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			if b, err := io.ReadAll(resp.Body); string(b) != "hello\n" || err != nil {
				return fmt.Errorf("got %q, %w", b, err)
			}
			return nil
		}
		eventually(t, "the web server", get)
		begin := time.Now()
		for i := range 200 {
			if err := get(); err != nil {
				t.Fatalf("connection %d: %v; %s", i, err, web.errs.text())
			}
		}
		t.Logf("%v a connection", (time.Since(begin) / 200).Round(10*time.Microsecond))
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if err := get(); err != nil {
					t.Errorf("%v; %s", err, web.errs.text())
				}
			})
		}
		wg.Wait()

		got, err := forward(t, c, ns, "servers", 8081).ask(data)
		if want := fmt.Sprintf("%x  -\n", sha256.Sum256(data)); string(got) != want || err != nil {
			t.Errorf("half-close: got %q, %v, want %q", got, err, want)
		}
		got, err = forward(t, c, ns, "servers", 8082).ask([]byte("hi\n"))
		if string(got) != "ready\nyou said hi\n" || err != nil {
			t.Errorf("speaks first: got %q, %v", got, err)
		}

		closed := forward(t, c, ns, "servers", 9)
		if got, err := closed.ask([]byte("x")); len(got) > 0 {
			t.Errorf("refused: got %q, %v", got, err)
		}
		eventually(t, "the reason", func() error {
			for _, want := range []string{"error forwarding port 9 to pod servers", "connection refused"} {
				if !strings.Contains(closed.errs.text(), want) {
					return fmt.Errorf("it says %q, not %q", closed.errs.text(), want)
				}
			}
			return nil
		})
	})
}

// TestPortForwardHostNetwork reaches a server of a pod that has the node's network.
func TestPortForwardHostNetwork(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	p := newPod(ns, "host", edge1, shell("web", "mkdir /www; echo from the host > /www/index.html; exec httpd -f -p 127.0.0.1:18765 -h /www"))
	p.Spec.HostNetwork = true
	runPod(t, p)
	f := forward(t, client{}, ns, "host", 18765)
	eventually(t, "the web server", func() error {
		got, err := f.ask([]byte("GET /index.html HTTP/1.0\r\n\r\n"))
		if !bytes.Contains(got, []byte("from the host")) {
			return fmt.Errorf("got %q, %w; %s", got, err, f.errs.text())
		}
		return nil
	})
}

// TestCopy copies a large file both ways over a bad link.
func TestCopy(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	runPod(t, newPod(ns, "files", e, shell("main", idle)))
	must(t, e.SetLink(t.Context(), "profile", "B"))
	data := make([]byte, 8<<20)
	chacha := rand.NewChaCha8([32]byte{3})
	_, err := chacha.Read(data)
	must(t, err)
	there, back := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
	must(t, os.WriteFile(there, data, 0o600))
	for _, args := range [][]string{{there, ns + "/files:/file"}, {ns + "/files:/file", back}} {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		_, err := theLab.Kubectl(ctx, append([]string{"cp"}, args...)...)
		cancel()
		must(t, err)
		t.Logf("%.1f Mbit/s over 20", float64(len(data))*8/1e6/time.Since(begin).Seconds())
	}
	if got, err := os.ReadFile(back); err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("%d bytes came back, other ones than the %d sent, %v", len(got), len(data), err)
	}
}
