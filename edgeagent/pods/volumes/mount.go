package volumes

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// kernelMounter mounts for real.
type kernelMounter struct{}

// MemoryFS is a file system in memory.
type MemoryFS struct {
	// Size is its limit in bytes; zero leaves it to the kernel.
	Size int64
	// PageSize is that of huge pages in bytes (hugetlbfs); zero means a tmpfs.
	PageSize int64
	// Mode is that of its root, which belongs to Group if that is not nil, and then
	// has the bits that fsGroup adds.
	Mode  fs.FileMode
	Group *int64
	// NoSwap keeps it out of swap, where the kernel can (Linux 6.4).
	NoSwap bool
}

// options are those of mount(2): the root has them from the start.
func (t MemoryFS) options() string {
	mode := uint32(t.Mode.Perm())
	opts := ""
	if t.Group != nil {
		mode |= syscall.S_ISGID | groupReadWrite | groupEnter
		opts = fmt.Sprintf(",gid=%d", *t.Group)
	}
	opts = fmt.Sprintf("mode=%o", mode) + opts
	if t.Size > 0 {
		opts += fmt.Sprintf(",size=%d", t.Size)
	}
	if t.PageSize > 0 {
		opts += fmt.Sprintf(",pagesize=%d", t.PageSize)
	}
	return opts
}

// Memory mounts a file system unless one is there.
func (k kernelMounter) Memory(dir string, t MemoryFS) error {
	mounts, err := k.Mounts(dir)
	if err != nil {
		return err
	}
	if slices.Contains(mounts, dir) {
		return nil
	}
	kind := "tmpfs"
	if t.PageSize > 0 {
		kind = "hugetlbfs"
	}
	err = syscall.EINVAL
	if t.NoSwap {
		err = syscall.Mount(kind, dir, kind, 0, t.options()+",noswap")
	}
	if errors.Is(err, syscall.EINVAL) {
		err = syscall.Mount(kind, dir, kind, 0, t.options())
	}
	if err != nil {
		return fmt.Errorf("mount %s at %s: %w", kind, dir, err)
	}
	return nil
}

// Bind binds the opened file itself: its name may have changed by now.
func (kernelMounter) Bind(from *os.File, target string) error {
	source := "/proc/self/fd/" + strconv.FormatUint(uint64(from.Fd()), 10)
	if err := syscall.Mount(source, target, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount at %s: %w", target, err)
	}
	return nil
}

// umountNoFollow is UMOUNT_NOFOLLOW, which package syscall does not name.
const umountNoFollow = 0x8

// Unmount removes a mount and never follows a symbolic link to it.
func (kernelMounter) Unmount(path string) error {
	if err := syscall.Unmount(path, umountNoFollow); err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// Mounts reads the kernel's list.
func (kernelMounter) Mounts(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer func() { _ = f.Close() }()
	return mountsBelow(f, dir)
}

// mountsBelow reads a mountinfo, of which a line may have any length: whoever takes a
// mount for a directory removes what lies in it.
func mountsBelow(r io.Reader, dir string) ([]string, error) {
	var out []string
	ended := false
	for lines := bufio.NewReader(r); !ended; {
		line, err := lines.ReadString('\n')
		if ended = errors.Is(err, io.EOF); err != nil && !ended {
			return nil, fmt.Errorf("list mounts: %w", err)
		}
		if fields := strings.Fields(line); len(fields) >= 5 {
			if p := unescape(fields[4]); p == dir || strings.HasPrefix(p, dir+"/") {
				out = append(out, p)
			}
		}
	}
	// Later mounts lie on top of, or below, earlier ones.
	slices.Reverse(out)
	return out, nil
}

// unescape turns the octal escapes of mountinfo (space, tab, newline and
// backslash) back.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
