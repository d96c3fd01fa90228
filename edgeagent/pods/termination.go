package pods

import (
	"bytes"
	"io"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// The kubelet's bounds of a termination message.
const (
	maxMessage         = 4096
	maxMessageFromLogs = 2048
	maxMessageLogLines = 80
)

// terminationMessage reads what a container left: its message file or, if that
// is empty, it failed and the pod says so, the end of its log; else the
// runtime's own words.
func terminationMessage(st *cri.ContainerStatus) string {
	path := st.Annotations[annotationMessagePath]
	if path == "" {
		path = defaultMessagePath
	}
	for _, m := range st.Mounts {
		if m.ContainerPath != path {
			continue
		}
		if b := tail(m.HostPath, maxMessage); len(b) > 0 {
			return strings.ToValidUTF8(string(b), "�")
		}
		break
	}
	policy := corev1.TerminationMessagePolicy(st.Annotations[annotationMessagePolicy])
	if policy == corev1.TerminationMessageFallbackToLogsOnError && st.ExitCode != 0 {
		if text := lastLogLines(tail(st.LogPath, 4*maxMessage)); text != "" {
			return text
		}
	}
	return st.Message
}

// tail reads the last n bytes of a file; nothing if it cannot be read.
func tail(path string, n int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	if info.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return nil
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		return nil
	}
	return b
}

// lastLogLines strips the CRI log format, "TIME STREAM P|F TEXT", and keeps the
// last lines within the bounds.
func lastLogLines(raw []byte) string {
	var lines []string
	for line := range bytes.Lines(raw) {
		parts := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(" "), 4)
		if len(parts) < 4 {
			continue // the first line, cut in the middle
		}
		text := string(parts[3])
		if string(parts[2]) != "P" {
			text += "\n"
		}
		lines = append(lines, text)
	}
	lines = lines[max(0, len(lines)-maxMessageLogLines):]
	text := strings.Join(lines, "")
	return strings.ToValidUTF8(text[max(0, len(text)-maxMessageFromLogs):], "")
}
