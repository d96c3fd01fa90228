package store

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

// day writes what an edge with 20 pods writes in a day: a status of each pod
// every hour, one of the node every ten minutes, 500 events, 100 changed objects
// of 4 KiB and a new token for each pod every hour. Online, all that is reported
// is trimmed soon after. It returns the bytes of keys and values.
func day(tb testing.TB, s *Store, rng *rand.Rand, online bool) (logical int64, writes int) {
	tb.Helper()
	var unacked []uint64
	reported := func(seq uint64, err error, size int) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		logical += int64(size)
		writes++
		if unacked = append(unacked, seq); online && len(unacked) >= 4 {
			if err := s.Outbox().Trim(unacked...); err != nil {
				tb.Fatal(err)
			}
			unacked = unacked[:0]
		}
	}
	apply := func(key string, size int) {
		tb.Helper()
		o := Object{Key: key, Version: fmt.Sprint("6f6e6520-", rng.Uint64()), Value: text(rng, size)}
		if err := s.Apply(Batch{Upserts: []Object{o}}); err != nil {
			tb.Fatal(err)
		}
		logical += int64(len(o.Key) + len(o.Version) + size)
		writes++
	}
	for minute := range 24 * 60 {
		if minute%10 == 0 {
			seq, err := s.Outbox().PutKeyed(1, "", text(rng, 3000))
			reported(seq, err, 3000)
		}
		if minute%3 == 0 { // 20 an hour
			pod := minute / 3 % 20
			key := fmt.Sprintf("pods/default/web-%d", pod)
			seq, err := s.Outbox().PutKeyed(2, key, text(rng, 1500))
			reported(seq, err, 1500+len(key))
			apply(fmt.Sprintf("tokens/default/web-%d/0123456789abcdef", pod), 1200)
		}
		if rng.IntN(24*60) < 500 {
			key := fmt.Sprintf("events/default/web-%d.%x", rng.IntN(20), rng.Uint64())
			seq, err := s.Outbox().Append(4, key, text(rng, 500))
			reported(seq, err, 500+len(key))
		}
		if rng.IntN(24*60) < 100 {
			apply(fmt.Sprintf("pods/default/web-%d", rng.IntN(20)), 4096)
		}
	}
	return logical, writes
}

// text gives bytes that compress by about half, as protobuf of Kubernetes does.
func text(rng *rand.Rand, size int) []byte {
	b := make([]byte, (size+1)/2)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return []byte(hex.EncodeToString(b))[:size]
}

// BenchmarkDay measures what a day costs the flash: what Pebble writes to its log
// and its tables, and what the kernel has written to the device for this process,
// over the bytes that were to be stored.
//
//	go test ./edgeagent/store -run '^$' -bench Day -benchtime 5x
func BenchmarkDay(b *testing.B) {
	for name, online := range map[string]bool{"online": true, "offline": false} {
		b.Run(name, func(b *testing.B) {
			rng := rand.New(rand.NewPCG(15, 16))
			s, err := Open(Config{Dir: b.TempDir() + "/db"})
			if err != nil {
				b.Fatal(err)
			}
			var logical int64
			var writes int
			device := deviceBytes(b)
			for b.Loop() {
				l, w := day(b, s, rng, online)
				logical += l
				writes += w
			}
			if err := s.db.Load().Flush(); err != nil { // what is in memory counts
				b.Fatal(err)
			}
			m := s.db.Load().Metrics()
			tables := uint64(0)
			for i := range m.Levels {
				tables += m.Levels[i].TableBytesFlushed + m.Levels[i].TableBytesCompacted
			}
			device = deviceBytes(b) - device
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			n, l := float64(b.N), float64(logical)
			b.ReportMetric(l/n/1024, "KiB_stored/day")
			b.ReportMetric(float64(writes)/n, "syncs/day")
			b.ReportMetric(float64(m.WAL.BytesWritten)/l, "log_amplification")
			b.ReportMetric(float64(tables)/l, "table_amplification")
			b.ReportMetric((float64(m.WAL.BytesWritten)+float64(tables))/l, "pebble_amplification")
			b.ReportMetric(float64(device)/l, "device_amplification")
			b.ReportMetric(float64(device)/n/(1<<20), "MiB_device/day")
		})
	}
}

// deviceBytes is what this process had the kernel write to block devices.
func deviceBytes(tb testing.TB) int64 {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		tb.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			return n
		}
	}
	tb.Skip("the kernel does not count what a process writes")
	return 0
}
