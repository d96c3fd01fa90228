package kubelet

import (
	"net/http"
	"testing"
	"time"

	"github.com/skerry-io/skerry/cloudproxy/kubeletfront"
	"github.com/skerry-io/skerry/cloudproxy/status"
)

// The proxy tells of sessions itself, so that it can of edges that are offline.
func TestStatus(t *testing.T) {
	sessions := map[string]status.Session{
		"n1":  {Node: "n1", Connected: true, Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Link: "quic"},
		"off": {Node: "off"},
	}
	w := start(t, settings{front: kubeletfront.Config{Status: func(node string) status.Session { return sessions[node] }}})
	const counters = `"bytesSent":0,"bytesReceived":0,"packetsSent":0,"packetsReceived":0,"packetsLost":0,"streams":0,` +
		`"links":0,"resumes":0,"migrations":0,"replayedBytes":0,"duplicateBytes":0,"bufferedBytes":0}`
	for _, tt := range []struct {
		path, uri string
		status    int
		want      string
	}{
		{status.Path, "/api/v1/nodes/n1/proxy" + status.Path, http.StatusOK, `{"node":"n1","connected":true,"since":"2026-01-02T03:04:05Z","link":"quic",` + counters},
		{status.Path, "/api/v1/nodes/off/proxy" + status.Path, http.StatusOK, `{"node":"off","connected":false,` + counters},
		{"/edge/v1/nodes/off" + status.Path, "", http.StatusOK, `{"node":"off","connected":false,` + counters},
		{status.Path, "", http.StatusNotFound, "the request names no edge"},
		{status.Path + "/x", "/api/v1/nodes/n1/proxy" + status.Path + "/x", http.StatusNotFound, "404 page not found\n"},
	} {
		if code, got := w.get(tt.path, "", "X-Forwarded-Uri", tt.uri); code != tt.status || got != tt.want {
			t.Errorf("%s of %q: got %d %q, want %d %q", tt.path, tt.uri, code, got, tt.status, tt.want)
		}
	}
}
