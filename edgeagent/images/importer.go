package images

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// ErrNoProgram says that the program is missing that imports archives.
var ErrNoProgram = errors.New("images of a file need a program of the runtime")

// Importer imports archives by a program that belongs to the runtime: CRI has no
// call for it, and containerd's own client would add megabytes to the agent, and
// their memory while it unpacks, for what a machine does once.
type Importer struct {
	// Runtime is its name, as it tells it.
	Runtime string
	// Socket is where it listens.
	Socket string
}

// Import gives an archive's images to the runtime.
func (i Importer) Import(ctx context.Context, file string) error {
	argv, err := i.command(file, exec.LookPath)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	complaint := &bounded{}
	cmd.Stderr = complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(complaint.buf.String()))
	}
	return nil
}

// command finds the program.
func (i Importer) command(file string, look func(string) (string, error)) ([]string, error) {
	if i.Runtime == "cri-o" {
		// It shares its storage with Podman.
		path, err := look("podman")
		if err != nil {
			return nil, fmt.Errorf("%w, podman beside cri-o: %w", ErrNoProgram, err)
		}
		return []string{path, "load", "--quiet", "--input", file}, nil
	}
	args := []string{"--address", strings.TrimPrefix(i.Socket, "unix://"), "--namespace", "k8s.io", "images", "import", file}
	path, err := look("ctr")
	if err == nil {
		return append([]string{path}, args...), nil
	}
	for _, multi := range []string{"k3s", "rke2"} {
		if path, found := look(multi); found == nil {
			return append([]string{path, "ctr"}, args...), nil
		}
	}
	return nil, fmt.Errorf("%w, containerd's own client ctr: %w", ErrNoProgram, err)
}
