package store

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestSevenDaysOffline fills the outbox in virtual time: 100,000 events and a
// status of each of 20 pods every hour, with a restart a day.
func TestSevenDaysOffline(t *testing.T) {
	t.Parallel()
	events, days, maxBytes := 100_000, 7, int64(4<<20)
	if testing.Short() {
		events, days, maxBytes = 10_000, 1, 400<<10
	}
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		cfg := Config{Dir: "db", FS: disk, MaxOutboxBytes: maxBytes}
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(13, 14))
		start := time.Now()
		for i := range events {
			time.Sleep(time.Duration(days) * 24 * time.Hour / time.Duration(events)) //nolint:forbidigo // virtual
			if _, err := s.Outbox().Append(4, "events/default/e", binary.BigEndian.AppendUint64(make([]byte, 50+rng.IntN(200)), uint64(i))); err != nil {
				t.Fatal(err)
			}
			if st := s.Outbox().Stats(); st.SequencedBytes > maxBytes {
				t.Fatalf("lane has %d bytes after %d events, bound %d", st.SequencedBytes, i, maxBytes)
			}
			if i%(events/days/24) == 0 {
				for p := range 20 {
					if _, err := s.Outbox().PutKeyed(2, fmt.Sprintf("pods/default/p%d", p), fmt.Append(nil, i)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if i%(events/days) == events/days-1 {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = Open(cfg); err != nil {
					t.Fatal(err)
				}
			}
		}
		statuses, next, first := 0, -1, -1
		for _, m := range entries(t, s.Outbox().Next) {
			if m.Subject == 2 {
				statuses++
				continue
			}
			n := int(binary.BigEndian.Uint64(m.Value[len(m.Value)-8:]))
			if first < 0 {
				first, next = n, n
			}
			if n != next {
				t.Fatalf("event %d follows %d: not the oldest were dropped", n, next-1)
			}
			next++
		}
		st, drops := s.Outbox().Stats(), s.Outbox().Drops()
		if statuses != 20 || next != events {
			t.Errorf("%d statuses, last event %d, want 20 and %d", statuses, next, events)
		}
		if st.Dropped != uint64(first) || len(drops) != 1 || drops[0].Reason != DropBytes || drops[0].Count != st.Dropped {
			t.Errorf("first event is %d, dropped %d, %+v", first, st.Dropped, drops)
		}
		if drops[0].First.Before(start) || drops[0].Last.After(time.Now()) || !drops[0].First.Before(drops[0].Last) {
			t.Errorf("dropped from %v to %v", drops[0].First, drops[0].Last)
		}
		t.Logf("kept %d events in %d bytes, dropped %d, and %d statuses", st.Entries-20, st.SequencedBytes, st.Dropped, statuses)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOutboxAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(Config{Dir: "db", FS: vfs.NewMem(), MaxOutboxAge: 4 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		o := s.Outbox()
		if _, err := o.PutKeyed(1, "", []byte("node")); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			if _, err := o.Append(4, fmt.Sprint(i), nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Hour) //nolint:forbidigo // virtual
		}
		if got := messages(t, s); len(got) != 4 || got[0] != "1:1:=node" || got[1] != "4:4:2=" {
			t.Errorf("messages after ten hours = %v, want the status and the events of four hours", got)
		}
		if d := o.Drops(); len(d) != 1 || d[0].Reason != DropAge || d[0].Count != 2 {
			t.Errorf("Drops = %+v", d)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestWrongClock starts the store with a clock that is years off, either way:
// nothing goes that is not old.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	jumps := []time.Duration{50 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour, -5 * time.Hour, 5 * time.Hour}
	if testing.Short() {
		jumps = jumps[:1]
	}
	for _, jump := range jumps {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem()
			cfg := Config{Dir: "db", FS: disk, MaxOutboxAge: 30 * time.Hour}
			s, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if _, err := s.Outbox().Append(4, "e", nil); err != nil {
					t.Fatal(err)
				}
			}
			// As if the clock had stood elsewhere when the store was last open.
			b := new(pebble.Batch)
			v := binary.BigEndian.AppendUint64(nil, 0)
			set(b, dbKey(kindInternal, nameClock), binary.BigEndian.AppendUint64(v, uint64(time.Now().Add(-jump).Unix())))
			if err := s.writeNow(b); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = Open(cfg); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Outbox().Append(4, "new", nil); err != nil {
				t.Fatal(err)
			}
			if n := len(messages(t, s)); n != 4 {
				t.Errorf("clock %v off: %d entries left of 4", jump, n)
			}
			time.Sleep(31 * time.Hour) //nolint:forbidigo // virtual
			if _, err := s.Outbox().Append(4, "last", nil); err != nil {
				t.Fatal(err)
			}
			if n := len(messages(t, s)); n != 1 {
				t.Errorf("clock %v off: %d entries after 31 hours, want 1", jump, n)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestClockJumps has a machine that boots in 1970 hear the time, and the agent
// start again soon after, once an hour: no day is counted that has not gone by.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var offset time.Duration
		cfg := Config{
			Dir: "db", FS: vfs.NewMem(), MaxOutboxAge: 3 * 24 * time.Hour,
			wall: func() time.Time { return time.Now().Add(offset) },
		}
		const century = 100 * 365 * 24 * time.Hour
		const runs = 20
		for i := range runs {
			for _, offset = range []time.Duration{-30 * 365 * 24 * time.Hour, century} {
				s, err := Open(cfg)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if _, err := s.Outbox().Append(4, fmt.Sprint(i), nil); err != nil {
						t.Fatal(err)
					}
					offset = century
				}
				if d := s.Outbox().Drops(); len(d) > 0 {
					t.Fatalf("run %d: %+v", i, d)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Hour) //nolint:forbidigo // virtual
		}
	})
}
