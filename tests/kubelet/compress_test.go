package kubelet

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// weighed counts what edges send.
type weighed struct {
	net.Conn
	n *atomic.Int64
}

func (c weighed) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// TestLogsAreCompressed: on the link only, and -f gets each line when it comes.
func TestLogsAreCompressed(t *testing.T) {
	w := start(t, settings{})
	var lines []string
	for i := range 5000 {
		lines = append(lines, fmt.Sprintf("INFO request done method=GET path=/api/v1/orders/%d status=200 duration=%dms", i*7919%100000, i%300))
	}
	path := logFile(t, lines...)
	w.edgePods.Set(edgePod(newPod("p", "u", "n1"), path))
	var link atomic.Int64
	w.edges.mu.Lock()
	w.edges.wrap = func(c net.Conn) net.Conn { return weighed{c, &link} }
	w.edges.mu.Unlock()
	want := strings.Join(lines, "\n") + "\n"
	resp := w.do(http.MethodGet, "/containerLogs/default/p/c", "", "Accept-Encoding", "gzip")
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || string(got) != want {
		t.Fatalf("%d of %d bytes, %v", len(got), len(want), err)
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" {
		t.Errorf("the caller gets %q", e)
	}
	if n := link.Load(); n > int64(len(want))/4 {
		t.Errorf("%d bytes crossed the link for %d", n, len(want))
	}
	t.Logf("%d bytes crossed the link for %d", link.Load(), len(want))

	follow := w.do(http.MethodGet, "/containerLogs/default/p/c?follow=true&tailLines=1", "")
	defer follow.Body.Close()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	body := bufio.NewReader(follow.Body)
	if got, err := body.ReadString('\n'); got != lines[len(lines)-1]+"\n" {
		t.Fatalf("got %q, %v", got, err)
	}
	for _, line := range []string{"short", strings.Repeat("a long line that is worth it ", 20), "short again"} {
		if _, err := f.WriteString(records(line)); err != nil {
			t.Fatal(err)
		}
		if got, err := body.ReadString('\n'); got != line+"\n" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

// TestEdgeThatDoesNotCompress is an older one, which does not know the header.
func TestEdgeThatDoesNotCompress(t *testing.T) {
	w := start(t, settings{})
	w.addPod(newPod("p2", "u2", "n2"))
	w.httpEdge("n2", func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nplain\n")
	})
	if status, got := w.get("/containerLogs/default/p2/c", ""); status != 200 || got != "plain\n" {
		t.Errorf("got %d %q", status, got)
	}
}

// TestEdgeThatCompressesBadly: a log that can't be read is cut off, and looks so.
func TestEdgeThatCompressesBadly(t *testing.T) {
	w := start(t, settings{})
	w.addPod(newPod("p2", "u2", "n2"))
	for name, body := range map[string]string{
		"garbage": "\x01\x05hello", "a bomb": "\x00\xff\xff\xff\xff\x0f", "cut": "\x00\x05he", "after a line": "\x00\x03hi\n\x07",
	} {
		w.httpEdge("n2", func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Encoding: skerry-zstd-1\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		})
		resp := w.do(http.MethodGet, "/containerLogs/default/p2/c", "")
		if got, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: the whole log is %q", name, got)
		}
		_ = resp.Body.Close()
	}
}
