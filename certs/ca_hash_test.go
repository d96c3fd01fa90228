package certs

import (
	"strings"
	"testing"
)

// FuzzParseCAHash accepts exactly what String writes, but for the case of its digits.
func FuzzParseCAHash(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("0a", 32))
	f.Add("sha256:" + strings.Repeat("0A", 32))
	f.Add("sha256:")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := ParseCAHash(s); err == nil && !strings.EqualFold(h.String(), s) {
			t.Errorf("%q is read as %s", s, h)
		}
	})
}
