package subscription_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/subscription"
)

func TestSequence(t *testing.T) {
	const largest = 1<<32 - 1
	for name, tt := range map[string]struct {
		last    uint32
		in      []uint32
		want    []uint32
		stale   int
		missing bool
		next    uint32
	}{
		"in order":        {0, []uint32{1, 2, 3}, []uint32{1, 2, 3}, 0, false, 4},
		"out of order":    {0, []uint32{2, 3, 1}, []uint32{1, 2, 3}, 0, false, 4},
		"hole":            {0, []uint32{1, 3, 4}, []uint32{1}, 0, true, 2},
		"twice":           {0, []uint32{1, 1, 2, 1}, []uint32{1, 2}, 2, false, 3},
		"past the end":    {largest - 1, []uint32{1, largest, 2}, []uint32{largest, 1, 2}, 0, false, 3},
		"after a restart": {41, []uint32{40, 41, 42}, []uint32{42}, 2, false, 43},
	} {
		s := subscription.NewSequence(tt.last)
		var got []uint32
		stale := 0
		for _, n := range tt.in {
			due, again := s.Accept(&ua.NotificationMessage{SequenceNumber: n})
			if again {
				stale++
			}
			for _, m := range due {
				got = append(got, m.SequenceNumber)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || stale != tt.stale || s.Missing(0) != tt.missing || s.Next() != tt.next {
			t.Errorf("%s: %s stale %d missing %v next %d", name, diff, stale, s.Missing(0), s.Next())
		}
	}
	s := subscription.NewSequence(0)
	if s.Missing(1) || !s.Missing(3) {
		t.Error("a keep-alive tells what comes next")
	}
	s.Accept(&ua.NotificationMessage{SequenceNumber: 2})
	if due := s.Skip(); len(due) != 1 || s.Next() != 3 || s.Missing(3) {
		t.Errorf("after giving up 1: %d due, next %d", len(due), s.Next())
	}
}
