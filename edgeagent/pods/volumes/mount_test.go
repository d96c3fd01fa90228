package volumes

import (
	"slices"
	"strings"
	"testing"
)

// An overlay of many layers has a line that is longer than any buffer; what comes after
// it is mounted none the less.
func TestMountsBelow(t *testing.T) {
	long := "36 25 0:32 / /merged rw - overlay overlay rw,lowerdir=" + strings.Repeat("/layer:", 20_000) + "\n"
	text := "21 25 0:19 / /state rw - tmpfs tmpfs rw\n" + long +
		`37 25 0:33 / /state/a\040b rw - tmpfs tmpfs rw` + "\nshort line\n38 25 0:34 / /stately rw - tmpfs tmpfs rw\n39 25 0:35 / /state/c rw - tmpfs tmpfs rw"
	got, err := mountsBelow(strings.NewReader(text), "/state")
	if want := []string{"/state/c", "/state/a b", "/state"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}
