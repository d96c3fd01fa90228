package desired

import (
	"errors"
	"net"
	"strings"
	"testing"

	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// TestHaveIsBounded: the names are an edge's, and so is their length.
func TestHaveIsBounded(t *testing.T) {
	for _, tt := range []struct {
		name  string
		entry wire.Entry
		each  int // entries of a frame
	}{
		{"number", wire.Entry{Key: "k", Version: "v"}, 10_000},
		{"keys", wire.Entry{Key: strings.Repeat("k", 60<<10)}, 1},
		{"versions", wire.Entry{Version: strings.Repeat("v", 60<<10)}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := New(Config{Client: fake.NewClientset()})
			if err != nil {
				t.Fatal(err)
			}
			edge, cloud := net.Pipe()
			go func() {
				for range 100 {
					f := &wire.Have{}
					for range tt.each {
						f.Entries = append(f.Entries, tt.entry)
					}
					if wire.Write(edge, f) != nil {
						return
					}
				}
				_ = wire.Write(edge, &wire.Have{Last: true})
			}()
			if err := newStream(p, "e1", cloud).readHave(); !errors.Is(err, errHave) {
				t.Errorf("got %v, want %v", err, errHave)
			}
			cloud.Close()
		})
	}
}
