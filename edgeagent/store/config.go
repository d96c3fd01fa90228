package store

import (
	"errors"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Config is what a Store needs.
type Config struct {
	// Dir is the directory of the database; it is made when absent. Beside it lie
	// Dir.key, Dir.reserve, and what was set aside. Required.
	Dir string
	// FS is the file system; nil means the machine's own.
	FS vfs.FS
	// Key gives the key that seals secrets; nil means a KeyFile at Dir.key.
	Key KeySource
	// MaxOutboxBytes bounds the sequenced lane of the outbox; zero means 16 MiB.
	MaxOutboxBytes int64
	// BulkSubject is the subject of entries of that lane which have a bound of their
	// own, MaxBulkBytes, so that much of them takes no room from others; zero means that
	// there are none, or 64 MiB.
	BulkSubject  uint64
	MaxBulkBytes int64
	// MaxOutboxAge bounds how long the sequenced lane keeps an entry; zero means 14
	// days: longer than an outage that someone plans for.
	MaxOutboxAge time.Duration
	// MinFreeBytes is the room on the disk below which the store takes no more
	// objects and events; zero means 8 MiB, what the largest compaction needs. On a
	// disk of less than 64 MiB it is an eighth of the disk at most.
	MinFreeBytes uint64
	// ReserveBytes is the size of a file that is given up when the disk is full all
	// the same; zero means 4 MiB. On a small disk it is a sixteenth at most.
	ReserveBytes uint64
	// Log may be nil, which discards.
	Log *slog.Logger

	// wall is the machine's clock; nil means time.Now.
	wall func() time.Time
	// damaged is told of damage that Pebble finds in the background; it must not
	// block. May be nil.
	damaged func(error)
}

func (c Config) fill() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("store config: Dir is required")
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.MaxOutboxBytes <= 0 {
		c.MaxOutboxBytes = 16 << 20
	}
	if c.MaxBulkBytes <= 0 {
		c.MaxBulkBytes = 64 << 20
	}
	if c.MaxOutboxAge <= 0 {
		c.MaxOutboxAge = 14 * 24 * time.Hour
	}
	if c.MinFreeBytes == 0 {
		c.MinFreeBytes = 8 << 20
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = 4 << 20
	}
	if c.wall == nil {
		c.wall = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Key == nil {
		c.Key = KeyFile{Path: c.Dir + ".key", FS: c.FS, Log: c.Log}
	}
	return c, nil
}
