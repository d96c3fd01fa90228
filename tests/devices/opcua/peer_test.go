package opcua_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimVariable) != "" {
		victim()
		return
	}
	if os.Getenv("SKERRY_E2E") == "" {
		fmt.Println("SKIP: the tests of OPC UA need Node.js; SKERRY_E2E=1 runs them")
		return
	}
	code := m.Run()
	os.RemoveAll(keys())
	os.Exit(code)
}

// peer is a node-opcua server.
type peer struct {
	cmd      *exec.Cmd
	in       io.WriteCloser
	lines    chan map[string]any
	url      string
	settings map[string]any
}

var modules = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("../../../.ci/npm-peer", "peer").Output()
	return strings.TrimSpace(string(out)), err
})

// keys is where servers keep their keys: the first one takes a while to make them.
var keys = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "skerry-opcua-keys")
	if err != nil {
		panic(err)
	}
	return dir
})

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startPeer starts a server and waits until it listens, which takes 5 to 36 s.
func startPeer(t *testing.T, settings map[string]any) *peer {
	t.Helper()
	all := map[string]any{"port": freePort(t), "pki": keys()}
	maps.Copy(all, settings)
	p := &peer{settings: all}
	p.start(t, nil)
	t.Cleanup(func() { p.kill() })
	return p
}

// start starts it, again with changed settings after kill.
func (p *peer) start(t *testing.T, changes map[string]any) {
	t.Helper()
	maps.Copy(p.settings, changes)
	path, err := modules()
	if err != nil {
		t.Fatalf("install node-opcua: %v", err)
	}
	text, err := json.Marshal(p.settings)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command("node", "peer/server.js", string(text))
	p.cmd.Env = append(os.Environ(), "NODE_PATH="+path)
	p.cmd.Stderr = nil
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan map[string]any, 16)
	p.lines = lines
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			var v map[string]any
			if json.Unmarshal(s.Bytes(), &v) == nil {
				lines <- v
			}
		}
	}()
	v := p.line(t, 5*time.Minute) // 5 s, and much more on a machine that others use
	if v["listening"] == nil {
		t.Fatalf("node-opcua: %v", v)
	}
	p.url = v["listening"].(string)
}

func (p *peer) line(t *testing.T, within time.Duration) map[string]any {
	t.Helper()
	select {
	case v, ok := <-p.lines:
		if !ok {
			t.Fatal("node-opcua ended")
		}
		return v
	case <-time.After(within):
		t.Fatal("node-opcua does not answer")
		return nil
	}
}

// do sends a command and gives the counters after it.
func (p *peer) do(t *testing.T, command map[string]any) map[string]any {
	t.Helper()
	b, err := json.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		t.Fatal(err)
	}
	return p.line(t, 30*time.Second)
}

// stop stops the counters and gives the last number.
func (p *peer) stop(t *testing.T) uint32 {
	t.Helper()
	return uint32(p.do(t, map[string]any{"do": "stop"})["count"].(float64))
}

// kill is kill -9.
func (p *peer) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *peer) port() int {
	switch n := p.settings["port"].(type) {
	case int:
		return n
	default:
		return 0
	}
}

// between is a proxy that can cut and swallow.
type between struct {
	l    net.Listener
	to   string
	mu   sync.Mutex
	hole bool
	down bool
	open []net.Conn
}

func startBetween(t *testing.T, p *peer) *between {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &between{l: l, to: fmt.Sprintf("127.0.0.1:%d", p.port())}
	t.Cleanup(func() { l.Close(); b.cut(true) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(c)
		}
	}()
	return b
}

func (b *between) url(p *peer) string {
	return strings.Replace(p.url, fmt.Sprintf(":%d", p.port()), fmt.Sprintf(":%d", b.l.Addr().(*net.TCPAddr).Port), 1)
}

func (b *between) serve(c net.Conn) {
	b.mu.Lock()
	down, hole := b.down, b.hole
	b.mu.Unlock()
	if down {
		c.Close()
		return
	}
	var s net.Conn
	if !hole {
		var err error
		if s, err = net.Dial("tcp", b.to); err != nil {
			c.Close()
			return
		}
	}
	b.mu.Lock()
	b.open = append(b.open, c)
	if s != nil {
		b.open = append(b.open, s)
	}
	b.mu.Unlock()
	if s == nil { // accepted by the network, and never answered
		_, _ = io.Copy(io.Discard, c)
		return
	}
	go b.pass(c, s)
	b.pass(s, c)
}

func (b *between) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		b.mu.Lock()
		hole := b.hole
		b.mu.Unlock()
		if n > 0 && !hole {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut closes all connections, and refuses new ones while down.
func (b *between) cut(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
	if down {
		for _, c := range b.open {
			c.Close()
		}
		b.open = nil
	}
}

// swallow makes all bytes vanish, with no word to either side, while on. What was
// open stays dead.
func (b *between) swallow(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hole = on
	if !on {
		for _, c := range b.open {
			c.Close()
		}
		b.open = nil
	}
}
