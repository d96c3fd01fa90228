package controlplane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// portFree tries to listen on addr, and names the holder when another does.
func portFree(ctx context.Context, addr netip.AddrPort) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr.String())
	if err == nil {
		return l.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	return fmt.Errorf("port %d is taken%s: stop its holder, or choose other ports with --port-base: %w",
		addr.Port(), holder(addr.Port()), err)
}

// holder says which process listens on a TCP port, as far as /proc lets us see.
func holder(port uint16) string {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		listening(f, port, inodes)
		_ = f.Close()
	}
	if len(inodes) == 0 {
		return ""
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !inodes[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] {
			continue
		}
		pid := strings.Split(link, "/")[2]
		name, _, _ := strings.Cut(readString(filepath.Join("/proc", pid, "cmdline")), "\x00")
		return fmt.Sprintf(" by process %s (%s)", pid, name)
	}
	return ""
}

// listening collects the socket inodes of the listeners on port from a table
// in the format of /proc/net/tcp: field 1 local address, 3 state, 9 inode.
func listening(table io.Reader, port uint16, inodes map[string]bool) {
	const stateListen = "0A"
	for sc := bufio.NewScanner(table); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) < 10 || fields[3] != stateListen {
			continue
		}
		_, hexPort, _ := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(hexPort, 16, 16); err == nil && uint16(n) == port {
			inodes[fields[9]] = true
		}
	}
}

func readString(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(data)
}
