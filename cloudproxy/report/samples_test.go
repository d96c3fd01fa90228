package report

import (
	"bufio"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/cloudproxy/samples"
	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// sink takes what it is told to.
type sink struct {
	mu    sync.Mutex // guards the following fields
	fails error
	taken []string // what the samples say
}

func (s *sink) Take(_ context.Context, node string, f devices.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return s.fails
	}
	for _, sample := range f.Samples {
		text, _ := sample.Value.(string)
		s.taken = append(s.taken, node+" "+text)
	}
	return nil
}

func (s *sink) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = err
}

func (s *sink) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

func samplesOf(t *testing.T, name, uid, text string) []byte {
	t.Helper()
	b, err := devices.AppendFrame(nil, devices.Frame{
		Namespace: "plant", Name: name, UID: uid, Samples: []devices.Sample{{Property: "p", Value: text}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSamples: each frame is taken, in its order, and acknowledged when it is; a
// receiver that is away holds up no status, and one that refuses loses that alone.
func TestSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, status := deviceBed(t)
		away := &sink{}
		r.samples = away
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		edge, cloud := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { _ = r.Serve(ctx, "edge1", cloud) })
		var mu sync.Mutex
		var acked []uint64
		wg.Go(func() {
			frames := wire.NewReader(bufio.NewReader(edge), maxFrame)
			for f, err := frames.Next(); err == nil; f, err = frames.Next() {
				if ack, ok := f.(*wire.ReportAck); ok {
					mu.Lock()
					acked = append(acked, ack.Seq)
					mu.Unlock()
				}
			}
		})
		send := func(seq uint64, subject wire.Subject, value []byte) {
			t.Helper()
			if err := wire.Write(edge, &wire.Report{Seq: seq, Subject: subject, Key: "devices/plant/press", Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		acks := func(d time.Duration) []uint64 {
			<-time.After(d)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return slices.Sorted(slices.Values(acked))
		}
		away.set(errors.New("connection refused"))
		for i, text := range []string{"a", "b", "c"} {
			send(uint64(i+1), wire.SubjectSamples, samplesOf(t, "press", "u1", text))
		}
		send(4, wire.SubjectDevice, deviceStatus("u1", "beside"))
		if got := acks(time.Minute); !slices.Equal(got, []uint64{4}) {
			t.Errorf("while nobody takes samples %d are acknowledged", got)
		}
		if got := status().Summary; got != "beside" {
			t.Errorf("status %q", got)
		}
		away.set(nil)
		if got := acks(time.Minute); !slices.Equal(got, []uint64{1, 2, 3, 4}) {
			t.Errorf("acknowledged %d", got)
		}
		if got := strings.Join(away.got(), ","); got != "edge1 a,edge1 b,edge1 c" {
			t.Errorf("taken: %s", got)
		}
		away.set(samples.ErrRefused)
		send(5, wire.SubjectSamples, samplesOf(t, "press", "u1", "d"))
		if got := acks(time.Second); !slices.Contains(got, 5) {
			t.Errorf("what is refused for good is not acknowledged: %d", got)
		}
		cancel()
		_ = edge.Close()
		wg.Wait()
	})
}

// TestHostileSamples: an edge tells nothing of others' devices.
func TestHostileSamples(t *testing.T) {
	for name, tt := range map[string]struct {
		node, key string
		value     []byte
		want      error // nil: it makes no sense
	}{
		"another edge's": {"edge2", "devices/plant/press", samplesOf(t, "press", "u1", "forged"), errForeign},
		"one before":     {"edge1", "devices/plant/press", samplesOf(t, "press", "u0", "forged"), errGone},
		"none":           {"edge1", "devices/plant/other", samplesOf(t, "other", "u1", "forged"), errGone},
		"another key":    {"edge1", "devices/plant/other", samplesOf(t, "press", "u1", "forged"), nil},
		"no frame":       {"edge1", "devices/plant/press", []byte{1, 2, 3}, nil},
	} {
		r, _ := deviceBed(t)
		s := &sink{}
		r.samples = s
		err := r.takeSamples(t.Context(), tt.node, tt.key, tt.value)
		if tt.want != nil && !errors.Is(err, tt.want) || tt.want == nil && !hopeless(err) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		if got := s.got(); got != nil {
			t.Errorf("%s: taken %q", name, got)
		}
	}
}

// TestSamplesForNobody are acknowledged and counted.
func TestSamplesForNobody(t *testing.T) {
	r, _ := deviceBed(t)
	err := r.takeSamples(t.Context(), "edge1", "devices/plant/press", samplesOf(t, "press", "u1", "a"))
	if !newLanes(r, "edge1").verdict(wire.Report{}, err) || r.Stats().Unwanted != 1 {
		t.Errorf("%v: %+v", err, r.Stats())
	}
}
