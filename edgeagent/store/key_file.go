package store

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// KeySource gives the key of this node that seals secrets on the disk. KeyFile is
// the one that needs no hardware; a TPM or a keyring is another.
type KeySource interface {
	// Key gives 32 bytes, each time the same, and makes them when there are none.
	// An error keeps the store from opening, so it is for a key that is there and
	// can't be had now, such as one behind a lock. A key that is lost is made anew:
	// what it sealed is set aside, and the cloud sends it again.
	Key() ([]byte, error)
}

// keyHeader begins the key file's only line; 64 hexadecimal digits of the key
// and 8 of its checksum follow.
const keyHeader = "skerry-store-key-v1 "

// KeyFile keeps the key in a file that only its owner may read.
type KeyFile struct {
	// Path is where it is. It is made by the first call of Key.
	Path string
	// FS is the file system; nil means the machine's own.
	FS vfs.FS
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Key implements KeySource.
func (f KeyFile) Key() ([]byte, error) {
	if f.FS == nil {
		f.FS = vfs.Default
	}
	if f.Log == nil {
		f.Log = slog.New(slog.DiscardHandler)
	}
	key, err := f.read()
	switch {
	case err == nil:
		return key, nil
	case errors.Is(err, errBadKey):
		// Kept, in case a person finds out what became of it.
		aside := f.Path + ".damaged"
		f.Log.Error("key of the store is damaged: set aside, a new one is made, the cloud sends secrets again", "path", aside)
		if err := f.FS.Rename(f.Path, aside); err != nil {
			return nil, fmt.Errorf("set damaged key file aside: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return f.create()
}

// errBadKey says that the file is there and holds no key.
var errBadKey = errors.New("key file does not hold a key")

func (f KeyFile) read() ([]byte, error) {
	file, err := f.FS.Open(f.Path)
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	defer file.Close() //nolint:errcheck // nothing was written
	if err := f.tighten(file); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(file, 1<<10))
	if err != nil {
		return nil, fmt.Errorf("read key file %s: %w", f.Path, err)
	}
	return parseKey(b)
}

// tighten takes the file from others when a person or a restored backup left it
// open to them: an edge that does not start helps nobody.
func (f KeyFile) tighten(file vfs.File) error {
	fd := file.Fd()
	if fd == vfs.InvalidFd {
		return nil // not a file of the machine
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(fd), &st); err != nil {
		return fmt.Errorf("stat key file: %w", err)
	}
	if st.Mode&0o077 == 0 {
		return nil
	}
	f.Log.Warn("key of the store could be read by others, mode set to 0600", "path", f.Path)
	return chmod(file)
}

func chmod(file vfs.File) error {
	if file.Fd() == vfs.InvalidFd {
		return nil
	}
	if err := unix.Fchmod(int(file.Fd()), 0o600); err != nil {
		return fmt.Errorf("set mode of key file: %w", err)
	}
	return nil
}

func parseKey(b []byte) ([]byte, error) {
	digits, ok := bytes.CutPrefix(bytes.TrimSpace(b), []byte(keyHeader))
	raw := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(raw, digits); !ok || err != nil || len(raw) != keySize+4 {
		return nil, errBadKey
	}
	key := raw[:keySize:keySize]
	if !bytes.Equal(raw[keySize:], checksum(key)) {
		return nil, errBadKey
	}
	return key, nil
}

func checksum(key []byte) []byte {
	sum := sha256.Sum256(append([]byte(keyHeader), key...))
	return sum[:4]
}

// create makes a key. The file gets its name when its content is on the disk, so
// that after power loss there is a whole key or none; nothing was sealed with it
// before create returns.
func (f KeyFile) create() ([]byte, error) {
	key := make([]byte, keySize)
	rand.Read(key) // ends the process when it can't
	tmp := f.Path + ".new"
	if err := f.write(tmp, keyHeader+hex.EncodeToString(append(bytes.Clone(key), checksum(key)...))+"\n"); err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	if err := f.FS.Rename(tmp, f.Path); err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	if err := syncDir(f.FS, f.FS.PathDir(f.Path)); err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	f.Log.Info("made the key that seals secrets on the disk", "path", f.Path)
	return key, nil
}

func (f KeyFile) write(name, content string) error {
	file, err := f.FS.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	err = chmod(file) // while it is empty
	if err == nil {
		_, err = io.WriteString(file, content)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
