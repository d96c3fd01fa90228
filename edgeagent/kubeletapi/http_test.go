package kubeletapi_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
)

func (e *edge) get(t *testing.T, path string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+e.kubelet.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func logFile(t *testing.T, lines ...string) string {
	t.Helper()
	var b strings.Builder
	for _, l := range lines {
		b.WriteString("2026-01-02T03:04:05.000000006Z stdout F " + l + "\n")
	}
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestContainerLogs(t *testing.T) {
	e := startEdge(t, kubeletapi.Config{})
	e.pods.Set(kubeletapi.Pod{Namespace: "default", Name: "p", UID: "u", Containers: []kubeletapi.Container{
		{Name: "c", State: kubeletapi.Running, Current: kubeletapi.Attempt{ID: "2", LogPath: logFile(t, "one", "two")}, Previous: kubeletapi.Attempt{ID: "1", LogPath: logFile(t, "before")}},
		{Name: "first", State: kubeletapi.Running, Current: kubeletapi.Attempt{ID: "3", LogPath: logFile(t)}},
		{Name: "done", State: kubeletapi.Terminated, Current: kubeletapi.Attempt{ID: "4", LogPath: logFile(t, "bye")}},
		{Name: "again", State: kubeletapi.Waiting, Reason: "CrashLoopBackOff", Previous: kubeletapi.Attempt{ID: "5", LogPath: logFile(t, "crash")}},
		{Name: "pull", State: kubeletapi.Waiting, Reason: "ErrImagePull"},
		{Name: "backoff", State: kubeletapi.Waiting, Reason: "ImagePullBackOff"},
		{Name: "creating", State: kubeletapi.Waiting, Reason: "ContainerCreating"},
		{Name: "unknown"},
		{Name: "lost", State: kubeletapi.Running, Current: kubeletapi.Attempt{ID: "6", LogPath: "/nonexistent/0.log"}},
	}})
	tests := []struct {
		path   string
		status int
		want   string
	}{
		{"c", 200, "one\ntwo\n"},
		{"c?tailLines=1", 200, "two\n"},
		{"c?previous=true", 200, "before\n"},
		{"c?limitBytes=2&unknown=1", 200, "on"},
		{"c?timestamps&tailLines=1", 200, "2026-01-02T03:04:05.000000006Z two\n"},
		{"c?stream=Stderr", 200, ""},
		{"c?sinceTime=2026-01-02T03:04:06Z", 200, ""},
		{"c?sinceSeconds=9223372036854775807", 200, "one\ntwo\n"},
		{"done?follow=true", 200, "bye\n"},
		{"again", 200, "crash\n"},
		{"first?previous=true", 400, `previous terminated container "first" in pod "p" not found`},
		{"pull", 400, `container "pull" in pod "p" is waiting to start: image can't be pulled`},
		{"backoff", 400, `container "backoff" in pod "p" is waiting to start: trying and failing to pull image`},
		{"creating", 400, `container "creating" in pod "p" is waiting to start: ContainerCreating`},
		{"unknown", 400, `container "unknown" in pod "p" is waiting to start - no logs yet`},
		{"lost", 400, `container "lost" in pod "p" has no log file`},
		{"x", 404, `container "x" not found in pod "p"`},
		{"c?tailLines=x", 400, `tailLines: "x" is not a whole number`},
		{"c?tailLines=-1", 422, `tailLines: -1 is less than 0`},
		{"c?limitBytes=0", 422, `limitBytes: 0 is less than 1`},
		{"c?sinceSeconds=0", 422, `sinceSeconds: 0 is less than 1`},
		{"c?sinceSeconds=99999999999999999999", 400, `sinceSeconds: "99999999999999999999" is not a whole number`},
		{"c?sinceTime=now", 400, `sinceTime: "now" is not an RFC 3339 time`},
		{"c?follow=maybe", 400, `follow: "maybe" is not true or false`},
		{"c?stream=Both", 422, `stream: "Both" is not one of All, Stdout, Stderr`},
		{"c?stream=Stdout&tailLines=1", 422, "`tailLines` and specific `stream` are mutually exclusive for now"},
		{"c?sinceTime=2026-01-02T03:04:06Z&sinceSeconds=1", 422, "at most one of `sinceTime` or `sinceSeconds` may be specified"},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			status, got := e.get(t, "/containerLogs/default/p/"+tt.path, "Skerry-Pod-Uid", "u")
			if status != tt.status || got != tt.want {
				t.Errorf("got %d %q, want %d %q", status, got, tt.status, tt.want)
			}
		})
	}
	if status, got := e.get(t, "/containerLogs/default/p/c", "Skerry-Pod-Uid", "other"); status != 404 || got != `pod "p" not found` {
		t.Errorf("another UID: got %d %q", status, got)
	}
	if status, got := e.get(t, "/healthz"); status != 200 || got != "ok" {
		t.Errorf("healthz: got %d %q", status, got)
	}
}

// TestLogsFollow follows a log until the container ends, and another until the caller goes.
func TestLogsFollow(t *testing.T) {
	e := startEdge(t, kubeletapi.Config{MaxLogs: 1})
	path := logFile(t, "one")
	e.pods.Set(pod(kubeletapi.Attempt{ID: "1", LogPath: path}))
	open := func(ctx context.Context) *http.Response {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.kubelet.Addr().String()+"/containerLogs/default/p/c?follow=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone := open(ctx)
	if line, err := bufio.NewReader(gone.Body).ReadString('\n'); line != "one\n" {
		t.Fatal(line, err)
	}
	if status, got := e.get(t, "/containerLogs/default/p/c"); status != 429 || !strings.Contains(got, "1 logs are open") {
		t.Errorf("beyond the bound: got %d %q", status, got)
	}
	cancel()
	_ = gone.Body.Close()

	// The place is free once the edge has noticed.
	var resp *http.Response
	for resp == nil {
		if resp = open(t.Context()); resp.StatusCode == 429 {
			_ = resp.Body.Close()
			resp = nil
		}
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); line != "one\n" {
		t.Fatal(line, err)
	}
	e.pods.Set(pod(kubeletapi.Attempt{ID: "2", LogPath: "unused"})) // restarted
	if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
}
