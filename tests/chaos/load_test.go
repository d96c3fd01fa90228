package chaos_test

import (
	"math/rand/v2"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// The shapes of streams. Each side keeps one stream of each going, two questions.
const (
	shapeTerminal = "terminal" // a little all the time, both ways; its gaps are the stalls
	shapeQuestion = "question" // a question to its end, then an answer
	shapeBulk     = "bulk"     // as fast as it goes, both ways
	shapeIdle     = "idle"     // a word now and then
	shapeSlow     = "slow"     // readers that are slower than writers
	shapeBroken   = "broken"   // reset or closed in the middle
)

func shapes() []string {
	return []string{shapeTerminal, shapeQuestion, shapeQuestion, shapeBulk, shapeIdle, shapeSlow, shapeBroken}
}

// terminalPace is how often a terminal says something.
const terminalPace = 40 * time.Millisecond

// draw makes the next stream of a shape; who opens it gives it its ID and Session.
func draw(r *rand.Rand, shape string) spec {
	between := func(low, high int64) int64 { return low + r.Int64N(high-low+1) }
	s := spec{Shape: shape, Kind: wire.KindKubelet, End: endFin}
	switch shape {
	case shapeTerminal:
		s.Kind = wire.KindExec
		f := flow{Bytes: 32 * between(100, 500), Piece: 32, Pause: terminalPace}
		s.Up, s.Down = f, f
	case shapeQuestion:
		s.Ask = true
		s.Up = flow{Bytes: between(0, 2000), Piece: 500, Pause: time.Duration(between(0, 50)) * time.Millisecond}
		s.Down = flow{Bytes: between(0, 20_000), Piece: 4000}
	case shapeBulk:
		one := func() flow {
			return flow{Bytes: between(0, 2<<20), Piece: int(between(1, 64<<10)), Pause: 10 * time.Millisecond}
		}
		s.Up, s.Down = one(), one()
		// Tiny pieces would take for ever.
		s.Up.Piece, s.Down.Piece = max(s.Up.Piece, int(s.Up.Bytes/200)+1), max(s.Down.Piece, int(s.Down.Bytes/200)+1)
	case shapeIdle:
		f := flow{Bytes: 16 * between(1, 3), Piece: 16, Pause: time.Duration(between(5, 40)) * time.Second}
		s.Up, s.Down = f, f
	case shapeSlow:
		f := flow{Bytes: between(100<<10, 800<<10), Piece: 32 << 10, ReadPause: 50 * time.Millisecond}
		s.Up, s.Down = f, f
		if r.IntN(2) == 0 {
			s.Down = flow{Bytes: between(0, 100), Piece: 10}
		}
	case shapeBroken:
		s.EndByOpener = r.IntN(2) == 0
		s.EndAfter = between(1, 60_000)
		ender := flow{Bytes: between(0, 50_000), Piece: 5000, Pause: time.Millisecond}
		other := flow{Bytes: endless, Piece: 5000, Pause: 5 * time.Millisecond}
		s.End = endReset
		codes := []wire.Code{wire.CodeInternal, wire.CodeNotFound, wire.CodeNotRunning, wire.CodeBadRequest, 4711}
		s.Code = codes[r.IntN(len(codes))]
		if r.IntN(2) == 0 {
			s.End, s.Code = endClose, wire.CodeCanceled
		}
		s.Up, s.Down = other, ender
		if s.EndByOpener {
			s.Up, s.Down = ender, other
		}
	}
	return s
}

// rest is how long a slot waits between two streams.
func rest(r *rand.Rand, shape string) time.Duration {
	if shape == shapeTerminal {
		return 0
	}
	return time.Duration(r.IntN(500)) * time.Millisecond
}
