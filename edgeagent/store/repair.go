package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// damagedName is a file in the directory of a database in which damage was found
	// while it was in use.
	damagedName = "DAMAGED"
	// keepDamaged is how many directories that were set aside are kept.
	keepDamaged = 2
)

// Beside the directory of the database: what is being rescued, whole or not; what
// is to take its place, whole; and what was set aside, with the time.
func rescueDir(dir string) string   { return dir + ".rescue" }
func nextDir(dir string) string     { return dir + ".new" }
func damagedPrefix(d string) string { return d + ".damaged-" }

// markDamaged has the next Open repair the database. It goes past spaceFS, which
// would wait for room without end, and gives up when the store is closed.
func (s *Store) markDamaged() {
	err := mark(s.space.fs, s.cfg.Dir)
	if isFull(err) && s.space.giveUpReserve() {
		err = mark(s.space.fs, s.cfg.Dir)
	}
	for isFull(err) && !isClosed(s.space.stopped) {
		select {
		case <-time.After(spaceRetry):
		case <-s.space.stopped: // once more, since whoever closes may have made room
		}
		err = mark(s.space.fs, s.cfg.Dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // set aside already
		s.log.Error("store can't be marked as damaged", "error", err)
	}
}

// mark makes the file that tells of damage. Its name is what counts.
func mark(disk vfs.FS, dir string) error {
	f, err := disk.Create(disk.PathJoin(dir, damagedName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, "a damaged record was found; the agent sets this directory aside when it starts\n")
	if isFull(err) {
		err = nil
	}
	return errors.Join(err, f.Sync(), f.Close(), syncDir(disk, dir))
}

// checkFiles finds what Pebble would not: it takes a directory without the marker
// that names the manifest for one without a database, and makes an empty one.
func checkFiles(disk vfs.FS, dir string) error {
	names, err := disk.List(dir)
	if err != nil {
		return classify(err)
	}
	marker, data := false, false
	for _, name := range names {
		switch {
		case name == damagedName:
			return fmt.Errorf("%w: a damaged record was found", ErrCorrupt)
		case strings.HasPrefix(name, "marker.manifest."):
			marker = true
		case strings.HasSuffix(name, ".sst"), strings.HasSuffix(name, ".log"):
			data = true
		}
	}
	if data && !marker {
		return fmt.Errorf("%w: there is data, but nothing that says which manifest counts", ErrCorrupt)
	}
	return nil
}

// finishRepair ends a repair that a crash interrupted between its two renames.
func finishRepair(cfg Config) error {
	if _, err := cfg.FS.Stat(cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := cfg.FS.Stat(nextDir(cfg.Dir)); err != nil {
		return nil //nolint:nilerr // a new store
	}
	return replaceDir(cfg, nextDir(cfg.Dir), cfg.Dir)
}

// repair sets a damaged database aside and puts a new one in its place, with what
// the outbox had. Objects are not carried over: one that can be read may be older
// than one that can't, and the cloud has them all. Until it has sent them, the
// pods that run go on.
func repair(cfg Config, lock *dirLock, cause error) error {
	cfg.Log.Error("store is damaged: it is set aside, the cloud sends desired state again", "dir", cfg.Dir, "error", cause)
	if err := removeDamaged(cfg, keepDamaged-1); err != nil {
		return errors.Join(cause, classify(err))
	}
	part, next := rescueDir(cfg.Dir), nextDir(cfg.Dir)
	if err := errors.Join(cfg.FS.RemoveAll(part), cfg.FS.RemoveAll(next)); err != nil {
		return errors.Join(cause, classify(err))
	}
	rescued, err := rescue(cfg, part)
	if err == nil {
		err = replaceDir(cfg, part, next)
	}
	if err != nil {
		return errors.Join(cause, fmt.Errorf("make a new store: %w", classify(err)))
	}
	aside, err := asideName(cfg)
	if err == nil {
		err = replaceDir(cfg, cfg.Dir, aside)
	}
	if err == nil {
		err = replaceDir(cfg, next, cfg.Dir)
	}
	if err != nil {
		return errors.Join(cause, fmt.Errorf("set the damaged store aside: %w", classify(err)))
	}
	cfg.Log.Warn("new store in place of the damaged one", "aside", aside, "reports_carried_over", rescued)
	// The room is worth more than what a person might learn from the files.
	if usage, err := cfg.FS.GetDiskUsage(cfg.Dir); err == nil && usage.AvailBytes < 4*cfg.MinFreeBytes {
		if err := removeDamaged(cfg, 0); err != nil {
			cfg.Log.Warn("damaged store can't be removed", "error", err)
		}
	}
	// Locks are known by their path: the one that was set aside is in the way.
	if err := errors.Join(lock.unlockInside(), lock.lockInside(cfg)); err != nil {
		return classifyLock(err)
	}
	return nil
}

// replaceDir renames a directory, for good.
func replaceDir(cfg Config, from, to string) error {
	if err := cfg.FS.Rename(from, to); err != nil {
		return err
	}
	return syncDir(cfg.FS, cfg.FS.PathDir(to))
}

// asideName gives a name that is not taken, later in order than those that are.
func asideName(cfg Config) (string, error) {
	stamp := time.Now().UTC().Format("20060102T150405.000Z")
	list, err := listDamaged(cfg)
	if err != nil {
		return "", err
	}
	name := damagedPrefix(cfg.Dir) + stamp
	if n := len(list); n > 0 && name <= list[n-1] { // the clock was set back
		name = list[n-1] + "+"
	}
	return name, nil
}

func listDamaged(cfg Config) ([]string, error) {
	names, err := cfg.FS.List(cfg.FS.PathDir(cfg.Dir))
	if errors.Is(err, fs.ErrNotExist) {
		names, err = cfg.FS.List("") // file systems in memory do not know "."
	}
	if err != nil {
		return nil, err
	}
	prefix := cfg.FS.PathBase(damagedPrefix(cfg.Dir))
	var list []string
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			list = append(list, cfg.FS.PathJoin(cfg.FS.PathDir(cfg.Dir), name))
		}
	}
	slices.Sort(list)
	return list, nil
}

// removeDamaged removes all but the newest keep.
func removeDamaged(cfg Config, keep int) error {
	list, err := listDamaged(cfg)
	if err != nil {
		return err
	}
	for _, dir := range list[:max(0, len(list)-keep)] {
		if err := cfg.FS.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}
