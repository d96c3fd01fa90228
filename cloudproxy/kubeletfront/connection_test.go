package kubeletfront

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// callerStream is a caller's end of which the test holds the others.
type callerStream struct {
	io.Reader

	told [][]byte
}

func (s *callerStream) Write(b []byte) (int, error) {
	s.told = append(s.told, bytes.Clone(b))
	return len(b), nil
}

func (s *callerStream) Close() error { return nil }

func newConnection(t *testing.T, in io.Reader) (*connection, *callerStream) {
	t.Helper()
	s := &callerStream{Reader: in}
	return &connection{c: (&forwarding{a: &stream{req: &request{node: "n1"}}}).newConnections(t.Context()), stream: s}, s
}

// TestPumpUpSkipsEmptyData: an edge asks by it whether we are there. The caller is
// not concerned.
func TestPumpUpSkipsEmptyData(t *testing.T) {
	x, s := newConnection(t, nil)
	edge, conn := net.Pipe()
	go func() {
		for _, b := range []string{"", "a", "", "", "b", ""} {
			_ = wire.Write(edge, &wire.Data{Channel: wire.ChannelStdout, Bytes: []byte(b)})
		}
		_ = edge.Close()
	}()
	if err := x.pumpUp(conn); err != nil {
		t.Fatal(err)
	}
	if got := bytes.Join(s.told, []byte("|")); string(got) != "a|b" {
		t.Errorf("the caller is told %q", got)
	}
}

// TestPumpDownMutePod: a pod that has ended its output and reads nothing keeps no
// place for a caller that may have gone; one that reads slowly does.
func TestPumpDownMutePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, say := io.Pipe()
		x, _ := newConnection(t, in)
		edge, conn := net.Pipe()
		x.conn = conn
		down := make(chan struct{})
		go func() {
			defer close(down)
			x.pumpDown(conn)
		}()
		frames := wire.NewReader(bufio.NewReader(edge), maxExecFrame)
		speak := func() {
			if _, err := say.Write([]byte("x")); err != nil {
				t.Error(err)
			}
		}
		speak()
		<-time.After(time.Hour) // the pod speaks, so a caller's reset would be seen
		if _, err := frames.Next(); err != nil {
			t.Fatal(err)
		}
		speak()
		<-time.After(muteWait - time.Second)
		if x.end() {
			t.Error("reset")
		}
		for range 3 {
			<-time.After(muteWait - time.Second)
			if _, err := frames.Next(); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Hour) // the caller is silent
			speak()
		}
		<-time.After(muteWait + time.Second)
		if f, err := frames.Next(); err == nil {
			t.Errorf("the edge's end is open and gives %v", f)
		}
		speak() // goes nowhere, and keeps nobody
		_ = say.Close()
		<-down
	})
}
