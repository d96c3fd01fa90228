package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// strays are the processes that have a marker in their environment, with all
// below them: a container has no marker, but a shim above it.
func strays(mark string) ([]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	want := []byte(mark)
	children := map[int][]int{}
	var todo []int
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // ended meanwhile
		}
		st, err := parseStat(b)
		if err != nil || st.state == 'Z' {
			continue
		}
		children[st.parent] = append(children[st.parent], pid)
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err == nil && slices.ContainsFunc(bytes.Split(env, []byte{0}), func(v []byte) bool { return bytes.Equal(v, want) }) {
			todo = append(todo, pid)
		}
	}
	var found []int
	for len(todo) > 0 {
		pid := todo[0]
		todo = append(todo[1:], children[pid]...)
		if !slices.Contains(found, pid) {
			found = append(found, pid)
		}
	}
	return found, nil
}

// killStrays ends what the orderly way has left, for instance the shims of a
// containerd that was killed.
func killStrays(ctx context.Context, mark string) error {
	return Until(ctx, 20*time.Second, "end of all processes", func() error {
		pids, err := strays(mark)
		if err != nil {
			return Final(err)
		}
		if len(pids) == 0 {
			return nil
		}
		return killAll(pids)
	})
}

// killAll kills and reports that there was something to kill.
func killAll(pids []int) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return Final(fmt.Errorf("kill %d: %w", pid, err))
		}
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // reaps those that are children of this process
	}
	return fmt.Errorf("processes %v still run", pids)
}
