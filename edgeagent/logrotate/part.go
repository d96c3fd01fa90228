package logrotate

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	stampFormat = "20060102-150405"
	gzSuffix    = ".gz"
	tmpSuffix   = ".tmp"
)

// ErrDamaged says that a compressed part can't be unpacked, or not to its end. It
// will not get better.
var ErrDamaged = errors.New("part of log is damaged")

// Part is a file that holds what a container wrote to its log before a rotation.
type Part struct {
	// Stamp tells the order: it is the time of the rotation, later than those before.
	Stamp string
	// path is the name without gzSuffix.
	path string
	// plain and packed tell which of the two files were there. With both, the plain
	// one is whole.
	plain, packed bool
}

// Parts lists the parts of the log at path, oldest first. The log itself is none.
func Parts(path string) ([]Part, error) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return nil, fmt.Errorf("list parts of log: %w", err)
	}
	var out []Part
	for _, e := range entries { // by name, so that a part and its .gz are neighbours
		rest, ok := strings.CutPrefix(e.Name(), base+".")
		if !ok {
			continue
		}
		stamp, packed := strings.CutSuffix(rest, gzSuffix)
		if _, err := time.Parse(stampFormat, stamp); err != nil {
			continue
		}
		if len(out) == 0 || out[len(out)-1].Stamp != stamp {
			out = append(out, Part{Stamp: stamp, path: path + "." + stamp})
		}
		p := &out[len(out)-1]
		p.plain, p.packed = p.plain || !packed, p.packed || packed
	}
	slices.SortFunc(out, func(a, b Part) int { return strings.Compare(a.Stamp, b.Stamp) })
	return out, nil
}

// Open opens a part for reading, uncompressed. One that was removed since gives
// an error for which errors.Is(err, fs.ErrNotExist) holds; Open and what reads from
// it give ErrDamaged.
func (p Part) Open() (io.ReadCloser, error) {
	f, err := os.Open(p.path)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open part of log: %w", err)
	}
	if f, err = os.Open(p.path + gzSuffix); err != nil {
		return nil, fmt.Errorf("open part of log: %w", err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open part of log: %w", damaged(err)), f.Close())
	}
	return unpacked{z, f}, nil
}

// Holds says whether the part is what info, of a file opened earlier, was renamed
// to. A compressed part has the time of the file that it was made of.
func (p Part) Holds(info fs.FileInfo) bool {
	if have, err := os.Stat(p.path); err == nil {
		return os.SameFile(have, info)
	}
	have, err := os.Stat(p.path + gzSuffix)
	return err == nil && have.ModTime().Equal(info.ModTime())
}

// Changed is when the part was last written to; zero if it is gone.
func (p Part) Changed() time.Time {
	for _, name := range []string{p.path, p.path + gzSuffix} {
		if info, err := os.Stat(name); err == nil {
			return info.ModTime()
		}
	}
	return time.Time{}
}

type unpacked struct {
	*gzip.Reader
	f *os.File
}

func (u unpacked) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = damaged(err)
	}
	return n, err
}

// damaged tells the decoder's errors from those of the file.
func damaged(err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

func (u unpacked) Close() error { return errors.Join(u.Reader.Close(), u.f.Close()) }

// Remove deletes a log with all its parts, and what a rotation left half done.
func Remove(path string) error {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove log: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if e.Name() != base && !strings.HasPrefix(e.Name(), base+".") {
			continue
		}
		if err := os.Remove(dir + e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove log: %w", err)
	}
	return nil
}
