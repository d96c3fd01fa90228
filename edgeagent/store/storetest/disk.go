package storetest

import (
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Disk is a Pebble file system in memory that knows what of it was synced.
type Disk struct{ *vfs.MemFS }

var _ vfs.FS = (*Disk)(nil)

// New gives an empty Disk.
func New() *Disk { return &Disk{vfs.NewCrashableMem()} }

// Crash gives what is on the disk after a loss of power now: all that was synced, and of
// the rest a part, percent of it as rng decides. rng may be nil if percent is 0. It may be
// called while others write.
func (d *Disk) Crash(percent int, rng *rand.Rand) *Disk {
	return &Disk{d.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})}
}

// ReuseForWrite implements vfs.FS. MemFS's own asks twice for a lock that CrashClone wants
// alone, and both wait for ever when CrashClone comes in between (Pebble v2.1.7).
func (d *Disk) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return d.OpenReadWrite(newname, category)
}
