package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// killTries is how often Remove kills what is in a group and looks again after
	// killPause: a process that has been killed takes a moment to leave.
	killTries = 10
	killPause = 20 * time.Millisecond
)

// kill kills the processes of a directory's group and of those below it.
func kill(dir string) error {
	var errs []error
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		}
		if err != nil || !d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil //nolint:nilerr // as above, and where there are only threads
		}
		for field := range strings.FieldsSeq(string(b)) {
			pid, err := strconv.Atoi(field)
			if err != nil || pid <= 1 || pid == os.Getpid() {
				continue // 0 is a process that this machine's root does not see
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				errs = append(errs, fmt.Errorf("kill process %d of cgroup %s: %w", pid, path, err))
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

// removeBusy removes a group whose processes nobody else ends any more.
func removeBusy(dir string) error {
	for try := 1; ; try++ {
		err := removeTree(dir)
		if err == nil || try == killTries {
			return err
		}
		if killErr := kill(dir); killErr != nil {
			return errors.Join(err, killErr)
		}
		<-time.After(killPause)
	}
}
