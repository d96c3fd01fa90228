package volumes

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// kernelMounter mounts for real.
type kernelMounter struct{}

// Tmpfs mounts a tmpfs unless one is there.
func (k kernelMounter) Tmpfs(dir string, size int64) error {
	mounts, err := k.Mounts(dir)
	if err != nil {
		return err
	}
	if slices.Contains(mounts, dir) {
		return nil
	}
	opts := ""
	if size > 0 {
		opts = "size=" + strconv.FormatInt(size, 10)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, opts); err != nil {
		return fmt.Errorf("mount tmpfs at %s: %w", dir, err)
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
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 5 {
			continue
		}
		p := unescape(fields[4])
		if p == dir || strings.HasPrefix(p, dir+"/") {
			out = append(out, p)
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
