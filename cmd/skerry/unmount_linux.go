package main

import (
	"fmt"
	"os"
	"syscall"
)

func readMounts() (string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	return string(data), err
}

// unmount never detaches lazily: a busy volume would be gone from sight and still
// there, and what is below it must not be deleted.
func unmount(point string) error {
	const noFollow = 8 // UMOUNT_NOFOLLOW, which package syscall lacks
	if err := syscall.Unmount(point, noFollow); err != nil {
		return fmt.Errorf("unmount %s: %w", point, err)
	}
	return nil
}
