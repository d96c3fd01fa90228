package trace_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/bench/tunnel/trace"
)

func at(ms int) time.Time { return time.Date(2026, 1, 1, 0, 0, 0, ms*1e6, time.UTC) }

const never = -1

// of makes a trace of pairs: sent, back.
func of(end int, pairs ...int) trace.Trace {
	t := trace.Trace{End: at(end)}
	for i := 0; i < len(pairs); i += 2 {
		s := trace.Sample{Sent: at(pairs[i])}
		if pairs[i+1] != never {
			s.Back = at(pairs[i+1])
		}
		t.Samples = append(t.Samples, s)
	}
	return t
}

func TestLatencies(t *testing.T) {
	got := of(1000, 0, 60, 20, never, 40, 105).Latencies()
	if diff := cmp.Diff([]float64{60, 980, 65}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLongestGap(t *testing.T) {
	steady := of(300, 0, 60, 20, 80, 40, 100, 60, 120, 80, 140)
	for _, tt := range []struct {
		name        string
		trace       trace.Trace
		from, until int
		want        float64
	}{
		{"nothing was sent", of(1000), 0, 1000, 0},
		{"between two answers", steady, 70, 130, 20},
		{"to the first answer", steady, 0, 130, 60},
		{"to the end", steady, 130, 300, 160},
		{"to the end, as a whole", steady, 200, 300, 160},
		{"ends after the window", of(2000, 0, 60, 20, 80, 100, 1060, 1020, 1080), 70, 400, 20},
		{"begins before the window", of(2000, 0, 60, 20, 80, 100, 1060, 1020, 1080), 300, 1070, 980},
		{"the longer of two", of(700, 0, 60, 20, 360, 40, 400, 60, 600, 80, 620), 100, 700, 300},
		{"before the window", of(700, 0, 60, 20, 560, 540, 600, 560, 620, 580, 640, 600, 660, 620, 680), 560, 700, 40},
		{"none ends in the window", of(900, 0, 60, 20, 80, 40, 880), 90, 300, 0},
		{"never an answer", of(5000, 100, never, 120, never), 1000, 5000, 4900},
		{"answers out of order", of(200, 0, 150, 20, 80, 40, 100), 85, 150, 50},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.trace.LongestGap(at(tt.from), at(tt.until)); got != tt.want {
				t.Errorf("got %g, want %g", got, tt.want)
			}
		})
	}
}

func TestResumed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		trace trace.Trace
		event int
		want  int
	}{
		{"an older answer proves nothing", of(900, 0, 160, 100, 700, 120, never, 140, 720), 90, 700},
		{"sent at the event", of(900, 90, 150), 90, 150},
		{"a later message is answered first", of(900, 100, 500, 200, 300), 90, 300},
		{"never", of(900, 0, 60, 100, never), 90, never},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := tt.trace.Resumed(at(tt.event))
			if ok != (tt.want != never) || ok && !got.Equal(at(tt.want)) {
				t.Errorf("got %v, %t; want %d", got, ok, tt.want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	want := of(900, 0, 60, 20, never)
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got trace.Trace
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-sent +received):\n%s", diff)
	}
}
