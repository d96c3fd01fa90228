package desired

import "testing"

// What is made for a namespace is made once for each change, and what was read before a
// change is not kept beyond it.
func TestLinksAreMadeOnce(t *testing.T) {
	l := links{made: make(map[string]value)}
	made := 0
	get := func() string {
		return l.get("ns", func() value {
			made++
			if made == 2 {
				l.changed("ns") // while it is being made
			}
			return value{version: string(rune('0' + made))}
		}).version
	}
	for i, want := range []string{"1", "1", "2", "3", "3"} {
		if i == 2 {
			l.changed("ns")
		}
		if got := get(); got != want {
			t.Errorf("look %d: %s, want %s", i, got, want)
		}
		l.changed("other")
	}
}
