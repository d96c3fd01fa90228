package controlplane

import (
	"os"
	"strings"
)

// tail returns the last lines of a log, or why it cannot be read.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	// More than fifteen long lines of klog need; the log itself may be huge.
	const window = 16 << 10
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	from := max(0, info.Size()-window)
	buf := make([]byte, info.Size()-from)
	n, err := f.ReadAt(buf, from)
	if n == 0 && err != nil {
		return "(the log is empty)"
	}
	return lastLines(string(buf[:n]), 15)
}

// lastLines keeps the last n lines, each cut to what a terminal shows in a few rows.
func lastLines(text string, n int) string {
	const width = 400
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, line := range lines {
		if len(line) > width {
			line = line[:width] + "..."
		}
		lines[i] = "  | " + line
	}
	return strings.Join(lines, "\n")
}
