package eviction

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Observation is what there is of something.
type Observation struct{ Available, Capacity int64 }

// Sample is what there is of everything that could be measured.
type Sample map[Signal]Observation

// State is how the thresholds stand over time. Its methods are pure but for it.
type State struct {
	thresholds []Threshold
	transition time.Duration
	// first is when a threshold, by its place, was first seen below; short are those
	// that are to be acted on until all of it is had back.
	first map[int]time.Time
	short map[int]bool
	seen  map[corev1.NodeConditionType]time.Time
}

func newState(thresholds []Threshold, transition time.Duration) *State {
	return &State{
		thresholds: thresholds, transition: transition,
		first: map[int]time.Time{}, short: map[int]bool{}, seen: map[corev1.NodeConditionType]time.Time{},
	}
}

// below says whether there is less than the threshold, or, with reclaim, less than
// it takes for all to be well again.
func (t *Threshold) below(s Sample, reclaim bool) bool {
	o, ok := s[t.Signal]
	if !ok {
		return false
	}
	want := t.Value.of(o.Capacity)
	if reclaim {
		want += t.Reclaim.of(o.Capacity)
	}
	return o.Available < want
}

// step takes a sample and gives the thresholds to act on, memory first.
func (s *State) step(now time.Time, sample Sample) (due []Threshold) {
	short := map[int]bool{}
	for i := range s.thresholds {
		t := &s.thresholds[i]
		if !t.below(sample, s.short[i]) {
			delete(s.first, i)
			continue
		}
		s.seen[t.Signal.condition()] = now
		if _, ok := s.first[i]; !ok {
			s.first[i] = now
		}
		if now.Sub(s.first[i]) < t.Grace {
			continue
		}
		short[i] = true
		due = append(due, *t)
	}
	s.short = short
	slices.SortStableFunc(due, func(a, b Threshold) int {
		switch {
		case a.Signal == b.Signal:
			return 0
		case a.Signal == MemoryAvailable:
			return -1
		case b.Signal == MemoryAvailable:
			return 1
		default:
			return 0
		}
	})
	return due
}

// enough says whether what was reclaimed ends all shortages.
func (s *State) enough(sample Sample) bool {
	return !slices.ContainsFunc(s.thresholds, func(t Threshold) bool { return t.below(sample, true) })
}

// conditions are the pressures seen within the transition period: what is freed is
// often taken again at once.
func (s *State) conditions(now time.Time) (out []corev1.NodeConditionType) {
	for _, c := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		if at, ok := s.seen[c]; ok && (at.Equal(now) || now.Sub(at) < s.transition) {
			out = append(out, c)
		}
	}
	return out
}
