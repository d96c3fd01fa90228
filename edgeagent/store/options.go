package store

import (
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// options sizes Pebble for a gateway with 128 MB of memory and flash that
// wears. A busy edge holds some hundred objects of a few kilobytes and writes a
// few records a second; nothing here is ever large.
func options(fs vfs.FS, log *slog.Logger, damaged func(error)) *pebble.Options {
	o := &pebble.Options{
		FS:     fs,
		Logger: pebbleLogger{log},
		// Without a listener damage that a compaction finds ends the process.
		EventListener: &pebble.EventListener{
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				if damaged != nil {
					damaged(fmt.Errorf("%w: %s: %w", ErrCorrupt, info.Path, info.Details))
				}
			},
			BackgroundError: func(err error) { log.Error("store can't tidy up", "error", classify(err)) },
		},
		// Pinned, so that an agent that is rolled back still opens what the newer one
		// wrote. From this version on the log tells a torn end from damage.
		FormatMajorVersion: pebble.FormatWALSyncChunks,
		// Two buffers of 1 MiB at most: a thousand status updates between flushes.
		// Smaller ones flush more often and so wear more; an object larger than
		// half of it is written as a table of its own, which Pebble handles.
		MemTableSize:                1 << 20,
		MemTableStopWritesThreshold: 2,
		// The whole desired state of a common edge. Go's heap does not hold it.
		CacheSize: 2 << 20,
		// Writers never wait for compactions: on a full disk these wait for room, and
		// that is looked for before each write.
		L0StopWritesThreshold: 1000,
		// A store of this size has some ten tables.
		MaxOpenFiles:               64,
		CompactionConcurrencyRange: func() (lower, upper int) { return 1, 1 },
		// The whole store fits in the first levels; a small base keeps deleted
		// values from staying long.
		LBaseMaxBytes:       8 << 20,
		MaxManifestFileSize: 1 << 20,
		// Statistics are read back from every table in the background to choose
		// compactions better than a store of this size needs.
		DisableTableStats: true,
		// Compression is Pebble's default, Snappy per block: protobuf shrinks by
		// about half for next to no CPU, which is half the wear.
	}
	// No compactions that only reading asked for: they rewrite flash to save
	// reads that nobody waits for.
	o.Experimental.ReadSamplingMultiplier = -1
	// Pebble's own scheduler without its ticker, which asks ten times a second, for
	// as long as the process lives, whether more compactions may run at a time. Here
	// it is always one, and the end of one starts the next. The scheduler is part of
	// one database, as these options are.
	o.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	return o
}
