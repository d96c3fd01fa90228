// Package trace holds what an echo stream has seen, message by message, and
// reads from it how long something stood still. It is pure: times in, figures
// out. Only the bench uses it.
package trace

import (
	"slices"
	"time"
)

// Sample is one message.
type Sample struct {
	// Sent is when it was due to be sent: a message that had to wait for the line
	// has waited for the user, too.
	Sent time.Time `json:"sent"`
	// Back is when its answer came; zero is never.
	Back time.Time `json:"back,omitzero"`
}

// Trace are the messages of one stream of them, in order, until it was watched
// no more.
type Trace struct {
	Samples []Sample  `json:"samples"`
	End     time.Time `json:"end"`
}

// Latencies are the times to the answers, in milliseconds. A message that
// was never answered counts with the time that it was waited for, so that losing
// the slowest ones is no advantage.
func (t Trace) Latencies() []float64 {
	ms := make([]float64, 0, len(t.Samples))
	for _, s := range t.Samples {
		back := s.Back
		if back.IsZero() {
			back = t.End
		}
		ms = append(ms, milliseconds(back.Sub(s.Sent)))
	}
	return ms
}

// LongestGap is the longest time without any answer of those that ended between
// from and until, in milliseconds; the end of the trace ends one, too. A gap that
// began before from counts as a whole: whoever looks at the screen has looked all
// that time. Before the first message nothing is missed.
func (t Trace) LongestGap(from, until time.Time) float64 {
	if len(t.Samples) == 0 {
		return 0
	}
	var answers []time.Time
	for _, s := range t.Samples {
		if !s.Back.IsZero() {
			answers = append(answers, s.Back)
		}
	}
	slices.SortFunc(answers, time.Time.Compare)
	var longest time.Duration
	last := t.Samples[0].Sent
	for _, at := range append(answers, t.End) {
		if at.After(from) && !at.After(until) {
			longest = max(longest, at.Sub(last))
		}
		last = at
	}
	return milliseconds(longest)
}

// Resumed is when the first message that was sent at or after event had its
// answer; false is never. Answers to older messages may have been on their way
// when it happened and prove nothing.
func (t Trace) Resumed(event time.Time) (time.Time, bool) {
	var first time.Time
	for _, s := range t.Samples {
		if s.Sent.Before(event) || s.Back.IsZero() {
			continue
		}
		if first.IsZero() || s.Back.Before(first) {
			first = s.Back
		}
	}
	return first, !first.IsZero()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
