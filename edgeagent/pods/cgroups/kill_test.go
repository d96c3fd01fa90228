package cgroups

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// What the runtime has forgotten ends with its pod.
func TestRemoveKills(t *testing.T) {
	mount := t.TempDir()
	forgotten := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := forgotten.Start(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(mount, "cpu/cgroup.procs"), "")
	// The kernel's file would not keep the directory; 0 and 1 are none of the pod's.
	write(t, filepath.Join(mount, "cpu/podu1/c1/cgroup.procs"), "0\n1\n"+strconv.Itoa(forgotten.Process.Pid)+"\n")
	tree, err := Open(mount)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Remove("/podu1"); err == nil {
		t.Error("removed a directory with a file in it")
	}
	_ = forgotten.Wait()
	if st, ok := forgotten.ProcessState.Sys().(syscall.WaitStatus); !ok || st.Signal() != syscall.SIGKILL {
		t.Errorf("the process ended with %v", forgotten.ProcessState)
	}
}
