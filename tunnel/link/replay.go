package link

// replayWindow is how many numbers below the highest are told from copies of what has
// come. What is older is taken for one.
const replayWindow = 1 << 12

// replay knows which numbers have come, as in RFC 6479 (IPsec Anti-Replay Algorithm
// without Bit Shifting).
type replay struct {
	bits [replayWindow/64 + 1]uint64 // a ring; one word more than the window has
	top  uint64                      // the highest number
}

// first takes in a number, and reports whether it comes for the first time.
func (r *replay) first(number uint64) bool {
	const words = uint64(len(r.bits))
	word := number / 64
	switch last := r.top / 64; {
	case number > r.top:
		for i := uint64(1); i <= min(word-last, words); i++ {
			r.bits[(last+i)%words] = 0
		}
		r.top = number
	case r.top-number >= replayWindow:
		return false
	}
	at, bit := &r.bits[word%words], uint64(1)<<(number%64)
	fresh := *at&bit == 0
	*at |= bit
	return fresh
}
