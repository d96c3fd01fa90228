package chaos_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// The kinds of faults.
const (
	faultOutage  = "outage"       // nothing gets through
	faultOneWay  = "one-way"      // nothing that one end sends gets through
	faultNAT     = "nat"          // the edge's port outside changes
	faultAddress = "address"      // the edge's address changes
	faultDevice  = "device-down"  // the edge's device goes down, and its routes with it
	faultProfile = "profile"      // delay, loss and rate change, and stay
	faultUDP     = "udp-blocked"  // only TCP gets through
	faultLink    = "link-killed"  // kill -9 of the emulator
	faultCloud   = "cloud-killed" // kill -9 of the cloud; the only one that ends a session
	faultFrozen  = "frozen"       // a process stands still
)

// fault is one thing that goes wrong.
type fault struct {
	Kind  string
	Value string        // what the kind needs
	For   time.Duration // until it is undone; zero for what stays
}

func (f fault) String() string {
	s := f.Kind
	if f.Value != "" {
		s += "=" + f.Value
	}
	if f.For > 0 {
		s += " for " + f.For.String()
	}
	return s
}

// cuts reports whether nothing can get through while the fault lasts, at least
// not in one direction.
func (f fault) cuts() bool {
	switch f.Kind {
	case faultOutage, faultOneWay, faultDevice, faultLink, faultCloud, faultFrozen:
		return true
	default:
		return false
	}
}

// step is one or two faults at once, and a while for all to recover.
type step struct {
	Faults []fault
	Pause  time.Duration
}

// name is the kind that the summary counts the step under.
func (s step) name() string {
	if len(s.Faults) == 1 {
		return s.Faults[0].Kind
	}
	return "two at once"
}

func (s step) String() string {
	var all []string
	for _, f := range s.Faults {
		all = append(all, f.String())
	}
	return strings.Join(all, " + ")
}

// length is how long the step takes.
func (s step) length() time.Duration {
	longest := time.Duration(0)
	for _, f := range s.Faults {
		longest = max(longest, f.For)
	}
	return longest + s.Pause
}

// deck draws kinds so that all have their turn before one comes again.
type deck struct {
	kinds, left []string
	rng         *rand.Rand
}

func (d *deck) draw() string {
	if len(d.left) == 0 {
		d.left = slices.Clone(d.kinds)
		d.rng.Shuffle(len(d.left), func(i, j int) { d.left[i], d.left[j] = d.left[j], d.left[i] })
	}
	k := d.left[0]
	d.left = d.left[1:]
	return k
}

// schedule draws the steps of a run from nothing but its arguments.
func schedule(seed uint64, total time.Duration, kinds []string) []step {
	rng := rand.New(rand.NewPCG(seed, 1))
	d := &deck{kinds: kinds, rng: rng}
	longest := min(30*time.Second, total/10)
	between := func(low, high time.Duration) time.Duration {
		high = max(min(high, longest), low)
		// Short ones are as likely as long ones: the logarithm is even.
		x := math.Log(float64(low)) + rng.Float64()*(math.Log(float64(high))-math.Log(float64(low)))
		return time.Duration(math.Exp(x)).Round(time.Millisecond)
	}
	draw := func(kind string) fault {
		f := fault{Kind: kind}
		switch kind {
		case faultOutage:
			f.For = between(time.Second, 30*time.Second)
		case faultOneWay:
			f.Value = []string{"up", "down"}[rng.IntN(2)]
			f.For = between(time.Second, 10*time.Second)
		case faultNAT:
			f.Value = fmt.Sprint(1 + rng.IntN(60_000))
		case faultAddress:
			f.Value = fmt.Sprint(10 + rng.IntN(240))
		case faultDevice, faultLink:
			f.For = between(200*time.Millisecond, 5*time.Second)
		case faultProfile:
			f.Value = string("ABCDE"[rng.IntN(5)])
		case faultUDP:
			f.For = between(4*time.Second, 20*time.Second)
		case faultCloud:
			f.For = between(100*time.Millisecond, 3*time.Second)
		case faultFrozen:
			f.Value = []string{"edge", "cloud"}[rng.IntN(2)]
			f.For = between(500*time.Millisecond, 5*time.Second)
		}
		return f
	}
	var steps []step
	for left := total; ; {
		s := step{Faults: []fault{draw(d.draw())}, Pause: between(3*time.Second, 6*time.Second)}
		if rng.IntN(4) == 0 {
			if other := draw(d.draw()); other.Kind != s.Faults[0].Kind {
				s.Faults = append(s.Faults, other)
			}
		}
		if left -= s.length(); left < 0 {
			return steps
		}
		steps = append(steps, s)
	}
}

func allKinds() []string {
	return []string{
		faultOutage, faultOneWay, faultNAT, faultAddress, faultDevice, faultProfile, faultUDP, faultLink, faultCloud, faultFrozen,
	}
}

func TestSchedule(t *testing.T) {
	for _, total := range []time.Duration{2 * time.Minute, 15 * time.Minute} {
		for seed := range uint64(50) {
			steps := schedule(seed, total, allKinds())
			if !reflect.DeepEqual(steps, schedule(seed, total, allKinds())) {
				t.Fatalf("seed %d gives two schedules", seed)
			}
			length, seen := time.Duration(0), map[string]bool{}
			for _, s := range steps {
				length += s.length()
				for _, f := range s.Faults {
					seen[f.Kind] = true
				}
			}
			if length > total || length < total*2/3 {
				t.Errorf("seed %d: %v of faults in %v", seed, length, total)
			}
			if len(seen) != len(allKinds()) {
				t.Errorf("seed %d: only %d kinds of faults in %v", seed, len(seen), total)
			}
		}
	}
	if reflect.DeepEqual(schedule(1, time.Minute, allKinds()), schedule(2, time.Minute, allKinds())) {
		t.Error("two seeds give one schedule")
	}
}
