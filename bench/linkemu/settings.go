package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings say what one direction of the link does to packets. The zero value
// is a perfect link.
type settings struct {
	rate         float64       // bytes a second; 0 means no limit
	queue        int           // bytes that wait for the line before packets are dropped
	delay        time.Duration // one way, on top of queue and line
	jitter       time.Duration // up to this much more delay, order kept
	loss         float64       // chance that a packet is lost
	geP          float64       // Gilbert-Elliott: chance that the good state turns bad, per packet; 0 means off
	geR          float64       // chance that the bad state turns good
	geLoss       float64       // chance of loss in the bad state
	reorder      float64       // chance that a packet is overtaken
	reorderDelay time.Duration // how much later such a packet arrives
	outage       bool          // nothing gets through
	udpBlock     bool          // no UDP gets through
}

const (
	mbit = 1e6 / 8 // bytes a second
	// A queue smaller than this would drop each full packet.
	minQueue = 2000
)

// profile is a named link.
type profile struct {
	name, what string
	settings
}

// profiles are the links of the budgets; rate, delay and loss are each way.
func profiles() []profile {
	return []profile{
		{"none", "no impairment", settings{}},
		{"A", "lan: 0.5 ms, 1 Gbit/s", settings{rate: 1000 * mbit, queue: 1_000_000, delay: 250 * time.Microsecond}},
		{"B", "4G: 60 ms, 20 Mbit/s, 1 %", settings{rate: 20 * mbit, queue: 250_000, delay: 30 * time.Millisecond, loss: 0.01}},
		{"C", "satellite: 600 ms, 10 Mbit/s, 1 %", settings{rate: 10 * mbit, queue: 375_000, delay: 300 * time.Millisecond, loss: 0.01}},
		{"D", "bad: 300 ms, 5 Mbit/s, 5 %", settings{rate: 5 * mbit, queue: 125_000, delay: 150 * time.Millisecond, loss: 0.05}},
		// 10 % in all: the chain is bad geP/(geP+geR) of the time, in bursts of 1/geR packets.
		{"E", "terrible: 400 ms, 2 Mbit/s, 10 % in bursts of 5", settings{
			rate: 2 * mbit, queue: 75_000, delay: 200 * time.Millisecond, geP: 0.02222, geR: 0.2, geLoss: 1,
		}},
	}
}

func profileNames() string {
	var names []string
	for _, p := range profiles() {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}

func lookupProfile(name string) (settings, error) {
	for _, p := range profiles() {
		if strings.EqualFold(p.name, name) {
			return p.settings, nil
		}
	}
	return settings{}, fmt.Errorf("no profile %q: there are %s", name, profileNames())
}

// field is one key of the word set.
type field struct {
	key   string
	parse func(s *settings, v string) error
}

func fields() []field {
	return []field{
		{"mbit", func(s *settings, v string) error {
			x, err := number(v, 1e6)
			s.rate = x * mbit
			return err
		}},
		{"queue", func(s *settings, v string) error {
			x, err := strconv.Atoi(v)
			if err != nil || x < minQueue {
				return fmt.Errorf("want bytes, at least %d", minQueue)
			}
			s.queue = x
			return nil
		}},
		{"delay", func(s *settings, v string) error { return duration(&s.delay, v) }},
		{"jitter", func(s *settings, v string) error { return duration(&s.jitter, v) }},
		{"rodelay", func(s *settings, v string) error { return duration(&s.reorderDelay, v) }},
		{"loss", func(s *settings, v string) error { return chance(&s.loss, v) }},
		{"gep", func(s *settings, v string) error { return chance(&s.geP, v) }},
		{"ger", func(s *settings, v string) error { return chance(&s.geR, v) }},
		{"gel", func(s *settings, v string) error { return chance(&s.geLoss, v) }},
		{"reorder", func(s *settings, v string) error { return chance(&s.reorder, v) }},
		{"outage", func(s *settings, v string) error { return onOff(&s.outage, v) }},
		{"udpblock", func(s *settings, v string) error { return onOff(&s.udpBlock, v) }},
	}
}

// with returns s changed by words of the form key=value. On an error nothing
// of it holds: the caller keeps what it had.
func (s settings) with(words []string) (settings, error) {
	all := fields()
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return s, fmt.Errorf("%q is not key=value", w)
		}
		i := slices.IndexFunc(all, func(f field) bool { return f.key == k })
		if i < 0 {
			var keys []string
			for _, f := range all {
				keys = append(keys, f.key)
			}
			return s, fmt.Errorf("no key %q: there are %s", k, strings.Join(keys, ", "))
		}
		if err := all[i].parse(&s, v); err != nil {
			return s, fmt.Errorf("%s=%s: %w", k, v, err)
		}
	}
	if s.rate > 0 && s.queue < minQueue {
		return s, fmt.Errorf("mbit needs queue: at least %d bytes", minQueue)
	}
	if s.geP > 0 && s.geR == 0 {
		return s, fmt.Errorf("gep needs ger: the bad state would never end")
	}
	return s, nil
}

func splitWords(s string) []string { return strings.Fields(s) }

func number(v string, limit float64) (float64, error) {
	x, err := strconv.ParseFloat(v, 64)
	if err != nil || !(x >= 0 && x <= limit) {
		return 0, fmt.Errorf("want a number from 0 to %g", limit)
	}
	return x, nil
}

func chance(to *float64, v string) (err error) {
	*to, err = number(v, 1)
	return err
}

func duration(to *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 || d > time.Minute {
		return fmt.Errorf("want a duration such as 150ms, at most 1m")
	}
	*to = d
	return nil
}

func onOff(to *bool, v string) error {
	if v != "0" && v != "1" {
		return fmt.Errorf("want 0 or 1")
	}
	*to = v == "1"
	return nil
}
