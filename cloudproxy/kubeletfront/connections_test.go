package kubeletfront

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
)

// headStream is a stream of which only the head counts.
type headStream struct {
	id   uint32
	head http.Header
}

func (s *headStream) Read([]byte) (int, error)    { return 0, io.EOF }
func (s *headStream) Write(b []byte) (int, error) { return len(b), nil }
func (s *headStream) Close() error                { return nil }
func (s *headStream) Reset() error                { return nil }
func (s *headStream) Headers() http.Header        { return s.head }
func (s *headStream) Identifier() uint32          { return s.id }

var _ httpstream.Stream = (*headStream)(nil)

func newHeadStream(id uint32, port, kind, request string) *headStream {
	h := http.Header{}
	h.Set(portforward.PortHeader, port)
	h.Set(portforward.StreamType, kind)
	h.Set(portforward.PortForwardRequestIDHeader, request)
	return &headStream{id, h}
}

// TestPairsAreBounded: a caller that opens one stream of each connection only can
// make us hold so many and no more.
func TestPairsAreBounded(t *testing.T) {
	c := (&forwarding{}).newConnections(t.Context())
	replied := make(chan struct{})
	for i := range 2 * maxPairs {
		err := c.accept(newHeadStream(uint32(2*i+1), "80", "data", strconv.Itoa(i)), replied)
		if (err == nil) != (i < maxPairs) {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	c.wait()
	if err := c.accept(newHeadStream(9, "80", "data", "late"), replied); err == nil || len(c.pairs) > 0 {
		t.Errorf("after the end: %v, %d wait", err, len(c.pairs))
	}
}

// FuzzForwardStreams: heads of streams come from whoever may forward ports.
func FuzzForwardStreams(f *testing.F) {
	f.Add("80 data 1\n80 error 1")
	f.Add("80 error \n80 data ")
	f.Add("80 data 1\n80 data 1\n-1 data 2\n99999 error 3\n80 both 4\n\n  ")
	f.Fuzz(func(t *testing.T, script string) {
		c := (&forwarding{}).newConnections(t.Context())
		replied := make(chan struct{}) // never: no connection gets to an edge
		lines := strings.Split(script, "\n")
		for i, line := range lines {
			w := append(strings.SplitN(line, " ", 3), "", "", "")
			s := newHeadStream(uint32(2*i+1), w[0], w[1], w[2])
			if err := c.accept(s, replied); err == nil {
				if n, err := strconv.ParseUint(w[0], 10, 16); err != nil || n == 0 || w[1] != "data" && w[1] != "error" {
					t.Errorf("%q is taken", line)
				}
			}
		}
		if len(c.pairs) > min(maxPairs, len(lines)) {
			t.Errorf("%d connections wait", len(c.pairs))
		}
		c.wait()
	})
}
