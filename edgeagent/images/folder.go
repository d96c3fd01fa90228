package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

const (
	// lookEvery is the pause between looks into the folder: one stat while nothing
	// is in it.
	lookEvery = 5 * time.Second
	// retryAfter is the pause before a file that could not be imported is tried again,
	// retryMax what it doubles to.
	retryAfter = time.Minute
	retryMax   = time.Hour
)

// writableByOthers are the modes with which a file may be anybody's.
const writableByOthers fs.FileMode = 0o022

// FolderConfig is what a Folder needs.
type FolderConfig struct {
	// Dir has image archives: *.tar, *.tar.gz or *.tgz. Nobody but its owner may write
	// to it or to them. Required, made if missing.
	Dir string
	// Record is a file of the folder's own, which notes what was imported. Required.
	Record string
	// Images lists the images that the runtime has. Required.
	Images func(ctx context.Context) ([]cri.Image, error)
	// Import gives the archive's images to the runtime. Required.
	Import func(ctx context.Context, file string) error
	// Changed hears that images have come. Nil means nobody does.
	Changed func()
	// Log receives what an operator acts on. Nil discards it.
	Log *slog.Logger
}

// Folder imports the images of archives that lie in a folder.
type Folder struct {
	cfg FolderConfig

	// Run's own.
	looked map[string]archive // as they were at the last look, with the names that were read
	retry  map[string]retry
	told   map[string]string // the error that was logged, by file

	mu       sync.Mutex // guards the following field
	imported map[string]archive
}

// retry is when a file is tried again, and what the pause before was.
type retry struct {
	at    time.Time
	pause time.Duration
}

// archive is what tells one state of a file from another.
type archive struct {
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Images   []string  `json:"images,omitempty"`
}

func (a archive) same(b archive) bool { return a.Size == b.Size && a.Modified.Equal(b.Modified) }

// NewFolder returns a Folder that knows what was imported before.
func NewFolder(cfg FolderConfig) (*Folder, error) {
	if cfg.Dir == "" || cfg.Record == "" || cfg.Images == nil || cfg.Import == nil {
		return nil, errors.New("images: Dir, Record, Images and Import are required")
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Folder{
		cfg: cfg, looked: map[string]archive{}, retry: map[string]retry{}, told: map[string]string{},
		imported: map[string]archive{},
	}
	raw, err := os.ReadFile(cfg.Record)
	if err == nil {
		err = json.Unmarshal(raw, &f.imported)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// Power loss may have cut it short. All is imported once more.
		cfg.Log.Warn("record of imported images not readable", "file", cfg.Record, "error", err)
		f.imported = nil
	}
	if f.imported == nil { // as by a record that says null
		f.imported = map[string]archive{}
	}
	return f, nil
}

// Names are the images of the archives in the folder: they are there to stay.
func (f *Folder) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, a := range f.imported {
		out = append(out, a.Images...)
	}
	return out
}

// Run imports until ctx ends.
func (f *Folder) Run(ctx context.Context) error {
	if err := os.MkdirAll(f.cfg.Dir, 0o700); err != nil {
		f.cfg.Log.Warn("folder of images can't be made", "error", err)
	}
	checked := false // that the runtime still has what was imported before
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		checked = checked || f.check(ctx)
		if checked {
			f.look(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// check forgets the import of what the runtime has lost, as with its disk.
func (f *Folder) check(ctx context.Context) bool {
	if len(f.imported) == 0 {
		return true
	}
	list, err := f.cfg.Images(ctx)
	if err != nil {
		return false
	}
	have := names{}
	for _, image := range list {
		for _, tag := range image.Tags {
			have.add(tag)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.imported, func(_ string, a archive) bool {
		return slices.ContainsFunc(a.Images, func(name string) bool { return !have[name] })
	})
	return true
}

// look imports what has come and has not changed since the last look: a file that
// is being copied grows.
func (f *Folder) look(ctx context.Context) {
	now, err := f.list()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.complain("", err) // from what can't be read follows nothing
		return
	}
	before := f.looked
	f.looked = now
	changed := f.forget(now)
	came := false
	for _, name := range slices.Sorted(maps.Keys(now)) {
		a := now[name]
		if !a.same(before[name]) {
			delete(f.retry, name)
			continue
		}
		a.Images = before[name].Images
		now[name] = a
		f.mu.Lock()
		done, ok := f.imported[name]
		f.mu.Unlock()
		if ok && done.same(a) || time.Now().Before(f.retry[name].at) {
			continue
		}
		if err := f.take(ctx, name, a); err != nil {
			if ctx.Err() != nil {
				return
			}
			f.later(name, err)
			f.complain(name, err)
			continue
		}
		came = true
	}
	if changed || came {
		f.save()
	}
	if came {
		f.cfg.Changed()
	}
}

func (f *Folder) list() (map[string]archive, error) {
	info, err := os.Stat(f.cfg.Dir)
	if err != nil {
		return nil, err
	}
	if info.Mode()&writableByOthers != 0 {
		return nil, fmt.Errorf("mode %v lets others than its owner write: whoever puts an image here chooses what pods run", info.Mode())
	}
	entries, err := os.ReadDir(f.cfg.Dir)
	if err != nil {
		return nil, err
	}
	out := map[string]archive{}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".tar") && !strings.HasSuffix(name, ".tar.gz") && !strings.HasSuffix(name, ".tgz") {
			continue
		}
		info, err := os.Stat(filepath.Join(f.cfg.Dir, name)) // it may be a link
		switch {
		case err != nil: // the disk fails, or what it links to is not mounted
			f.keep(name, out)
		case info.Mode().IsRegular() && info.Mode()&writableByOthers != 0:
			f.complain(name, fmt.Errorf("mode %v lets others than its owner write", info.Mode()))
			f.keep(name, out)
		case info.Mode().IsRegular():
			out[name] = archive{Size: info.Size(), Modified: info.ModTime()}
		}
	}
	return out, nil
}

// keep lists a file as it was imported, if it was.
func (f *Folder) keep(name string, in map[string]archive) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a, ok := f.imported[name]; ok {
		in[name] = a
	}
}

// forget drops the files that have gone: their images may be collected.
func (f *Folder) forget(now map[string]archive) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := len(f.imported)
	maps.DeleteFunc(f.imported, func(name string, _ archive) bool { return now[name].Modified.IsZero() })
	return len(f.imported) != before
}

func (f *Folder) take(ctx context.Context, name string, a archive) error {
	file := filepath.Join(f.cfg.Dir, name)
	if a.Images == nil { // to read them is to unpack all of it
		found, err := archiveNames(ctx, file)
		if err != nil {
			return err
		}
		a.Images = found
		f.looked[name] = a
	}
	if err := f.cfg.Import(ctx, file); err != nil {
		return err
	}
	f.mu.Lock()
	f.imported[name] = a
	f.mu.Unlock()
	delete(f.told, name)
	delete(f.retry, name)
	f.cfg.Log.Info("images imported", "file", file, "images", a.Images)
	return nil
}

// later puts a file off for longer each time, but while the program is missing:
// then a try costs nothing, and it may be installed any time.
func (f *Folder) later(name string, err error) {
	r := f.retry[name]
	r.pause = min(max(2*r.pause, retryAfter), retryMax)
	if errors.Is(err, ErrNoProgram) {
		r.pause = retryAfter
	}
	r.at = time.Now().Add(r.pause)
	f.retry[name] = r
}

// complain logs an error once for each file.
func (f *Folder) complain(name string, err error) {
	if f.told[name] == err.Error() {
		return
	}
	f.told[name] = err.Error()
	f.cfg.Log.Error("images not imported", "file", filepath.Join(f.cfg.Dir, name), "error", err)
}

// save writes the record. One that is lost costs an import.
func (f *Folder) save() {
	f.mu.Lock()
	raw, err := json.Marshal(f.imported)
	f.mu.Unlock()
	tmp := f.cfg.Record + ".tmp"
	if err == nil {
		err = os.MkdirAll(filepath.Dir(tmp), 0o700)
	}
	if err == nil {
		err = os.WriteFile(tmp, raw, 0o600)
	}
	if err == nil {
		err = os.Rename(tmp, f.cfg.Record)
	}
	if err != nil {
		f.cfg.Log.Warn("record of imported images not written", "error", fmt.Errorf("save record: %w", err))
	}
}
