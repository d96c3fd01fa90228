package edge

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWear counts the bytes of changes; what the disk gets is the disk's matter.
func TestWear(t *testing.T) {
	changed := map[bool][]int64{}
	for _, websocket := range []bool{false, true, false} {
		w, err := WearPlan{Dir: t.TempDir(), Count: 40, Websocket: websocket}.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		changed[websocket] = append(changed[websocket], w.Changed)
	}
	ours, other := changed[false], changed[true]
	if ours[0] != ours[1] || ours[0] <= other[0] || other[0] < 32*100 {
		t.Errorf("bytes of changes: %d and %d, and %d without events", ours[0], ours[1], other[0])
	}
}

func TestParseWriteBytes(t *testing.T) {
	got, err := parseWriteBytes("rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n")
	if err != nil || got != 4096 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, bad := range []string{"", "cancelled_write_bytes: 7\n", "write_bytes: x\n"} {
		if n, err := parseWriteBytes(bad); err == nil {
			t.Errorf("got %d of %q", n, bad)
		}
	}
}

func TestMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &process{stored: map[string]time.Time{}}
		begin := time.Now()
		time.AfterFunc(time.Second, func() { p.mark("a", time.Now()) })
		time.AfterFunc(2*time.Second, func() { p.mark("a", time.Now()); p.mark("b", time.Now()) })
		got := p.wait(t.Context(), Marks{Marks: []string{"a", "b"}, Timeout: time.Minute})
		if len(got) != 2 || got["a"].Sub(begin) != time.Second || got["b"].Sub(begin) != 2*time.Second {
			t.Errorf("got %v, begun %v", got, begin)
		}
		got = p.wait(t.Context(), Marks{Marks: []string{"b", "never"}, Timeout: time.Minute})
		if len(got) != 1 {
			t.Errorf("got %v", got)
		}
	})
}
