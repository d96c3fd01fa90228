package link

import (
	"math"
	"math/rand/v2"
	"testing"
)

// A number is new once, however numbers jump and overtake each other; below the window
// none is.
func TestReplay(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 6))
		var got replay
		seen := make(map[uint64]bool)
		var at, top uint64
		for range 5000 {
			switch r.IntN(8) {
			case 0:
				at = top + r.Uint64N(3*replayWindow)
			case 1:
				at -= min(at, r.Uint64N(2*replayWindow))
			default:
				at++
			}
			want := !seen[at] && (at >= top || top-at < replayWindow)
			if first := got.first(at); first != want {
				t.Fatalf("seed %d: number %d after %d: new %t, want %t", seed, at, top, first, want)
			}
			seen[at], top = true, max(top, at)
		}
	}
	var got replay
	for _, n := range []uint64{math.MaxUint64, math.MaxUint64 - 1} {
		if !got.first(n) || got.first(n) {
			t.Errorf("%d is not new once", n)
		}
	}
}
