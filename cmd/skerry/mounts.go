package main

import (
	"slices"
	"strconv"
	"strings"
)

// mountsBelow reads /proc/self/mountinfo and gives the mount points strictly below
// dir, the deepest and latest first: the order in which they can be unmounted. dir
// itself may be a file system of its own and stays.
func mountsBelow(mountinfo, dir string) []string {
	const pointField = 4
	var points []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) <= pointField {
			continue
		}
		point := unescapeMount(fields[pointField])
		if strings.HasPrefix(point, strings.TrimSuffix(dir, "/")+"/") {
			points = append(points, point)
		}
	}
	slices.Reverse(points)
	slices.SortStableFunc(points, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	return points
}

// unescapeMount undoes the kernel's \040 for space, tab, newline and backslash.
func unescapeMount(s string) string {
	const digits = 3
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+digits < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+1+digits], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += digits
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
