package kubelet

import (
	"bytes"
	"testing"

	"k8s.io/client-go/tools/remotecommand"
)

// endless is an input that somebody keeps typing into.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// TestExecTail has a caller that is behind with its reading when the command
// ends, and still sends: a connection that is closed with something unread is
// reset, and what is under way in the other direction is lost with it.
func TestExecTail(t *testing.T) {
	w := start(t, settings{})
	for _, protocol := range protocols() {
		t.Run(protocol, func(t *testing.T) {
			var out bytes.Buffer
			if err := w.call(t.Context(), protocol, remotecommand.StreamOptions{Stdin: endless{}, Stdout: &out}, "head", "-c", "3145728", "/dev/zero"); err != nil {
				t.Fatal(err)
			}
			if out.Len() != 3<<20 {
				t.Errorf("%d bytes came of %d", out.Len(), 3<<20)
			}
		})
	}
}
