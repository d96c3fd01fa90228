package uplink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long more messages are collected after one was told: a new address
// comes as several, and is of use with its route only.
const settle = 100 * time.Millisecond

// WatchNetwork calls changed when the machine's links, addresses or routes have
// changed, as the kernel tells over netlink, until ctx ends: at the first message,
// and once more when others have followed.
func WatchNetwork(ctx context.Context, changed func()) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("watch network: %w", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV4_ROUTE |
		unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV6_ROUTE)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return errors.Join(fmt.Errorf("watch network: %w", err), f.Close())
	}
	messages, failed := make(chan struct{}, 1), make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { failed <- readMessages(f, messages) })
	defer wg.Wait()
	defer func() { _ = f.Close() }() // ends the reader
	var settled <-chan time.Time
	more := false
	for {
		select {
		case <-messages:
			if more = settled != nil; more {
				continue
			}
			changed()
			settled = time.After(settle)
		case <-settled:
			settled = nil
			if more {
				more = false
				changed()
				settled = time.After(settle)
			}
		case err := <-failed:
			return fmt.Errorf("watch network: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// readMessages rings for every message. What changed does not matter, only that
// something did; a message cut short, or one lost for want of room, says that as well.
func readMessages(f *os.File, messages chan<- struct{}) error {
	buf := make([]byte, 4096)
	for {
		if _, err := f.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		select {
		case messages <- struct{}{}:
		default:
		}
	}
}
