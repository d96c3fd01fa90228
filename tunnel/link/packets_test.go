package link

import (
	"bytes"
	"testing"
)

// A packet opens with the number that it was sealed with, and with no other; one byte
// that has changed, of whichever part, makes it nobody's.
func TestPacketsAreSealed(t *testing.T) {
	var a, b sealer
	keys := bytes.Repeat([]byte{7}, packetID+32+packetIV)
	a.set(keys)
	b.set(keys)
	for _, number := range []uint64{0, 1, 1<<packetEpoch - 1, 1 << packetEpoch, 5 << packetEpoch, 3} {
		sealed, err := a.seal(nil, number, []byte("frames"))
		if err != nil {
			t.Fatal(err)
		}
		p := Packets{}
		p.in.set(keys)
		for i := range sealed {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1
			if _, got, ok := p.opened(bad); ok {
				t.Errorf("number %d, byte %d changed: opened as %q", number, i, got)
			}
		}
		n, got, ok := p.opened(bytes.Clone(sealed))
		if n != number || string(got) != "frames" || !ok {
			t.Errorf("number %d: %d, %q, %t", number, n, got, ok)
		}
		if _, _, ok := p.opened(bytes.Clone(sealed)); ok {
			t.Errorf("number %d: opened twice", number)
		}
	}
}
