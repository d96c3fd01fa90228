package image

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

// Busybox is an archive, as Archive gives it, of this machine's static busybox with
// all of its applets. It runs cmd unless it is told another command.
func Busybox(ctx context.Context, ref string, cmd ...string) ([]byte, error) {
	var files []File
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var"} {
		files = append(files, File{Path: d, Mode: fs.ModeDir | 0o755})
	}
	files = append(files,
		File{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		File{Path: "etc/passwd", Mode: 0o644, Data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")},
		File{Path: "etc/group", Mode: 0o644, Data: []byte("root:x:0:\nnogroup:x:65534:\n")},
	)
	programs, err := Applets(ctx, func(string) bool { return true })
	if err != nil {
		return nil, err
	}
	return Archive(ref, Process{Cmd: cmd}, append(files, programs...))
}

// Applets are this machine's static busybox, as bin/busybox, and links to it in bin for
// the applets that are wanted.
func Applets(ctx context.Context, wanted func(name string) bool) ([]File, error) {
	const program = "/bin/busybox"
	binary, err := os.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("package busybox-static: %w", err)
	}
	names, err := exec.CommandContext(ctx, program, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", program, err)
	}
	files := []File{{Path: "bin/busybox", Mode: 0o755, Data: binary}}
	for name := range strings.FieldsSeq(string(names)) {
		if name != "busybox" && wanted(name) {
			files = append(files, File{Path: "bin/" + name, Target: program})
		}
	}
	return files, nil
}
