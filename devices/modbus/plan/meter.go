package plan

import "time"

// Meter measures what requests cost: a line through the times that requests of
// different sizes have taken, old ones forgotten. The zero value is not ready; use
// NewMeter.
type Meter struct {
	n, x, y, xx, xy float64 // weighted sums: count, registers, seconds
	base            Cost
}

// fade is the weight that each new measurement takes from all older ones: the last
// hundred count.
const fade = 0.99

// NewMeter begins with a guess, which soon counts for little.
func NewMeter(guess Cost) *Meter {
	m := &Meter{base: guess}
	for _, registers := range []float64{1, 125} {
		m.add(registers, guess.Request.Seconds()+registers*guess.Register.Seconds())
	}
	return m
}

// Add notes that a request for so many registers took so long.
func (m *Meter) Add(registers int, took time.Duration) { m.add(float64(registers), took.Seconds()) }

func (m *Meter) add(x, y float64) {
	m.n, m.x, m.y, m.xx, m.xy = m.n*fade+1, m.x*fade+x, m.y*fade+y, m.xx*fade+x*x, m.xy*fade+x*y
}

// Cost returns what was measured.
func (m *Meter) Cost() Cost {
	spread := m.n*m.xx - m.x*m.x
	perRegister := m.base.Register.Seconds()
	if spread > 1 { // requests of different sizes are there
		perRegister = max(0, (m.n*m.xy-m.x*m.y)/spread)
	}
	perRequest := max(0, (m.y-perRegister*m.x)/m.n)
	return Cost{time.Duration(perRequest * 1e9), time.Duration(perRegister * 1e9)}
}

// Differs reports whether a plan made with c would be another one now: the gap over
// which it pays to read has changed by half.
func (c Cost) Differs(now Cost) bool {
	a, b := c.gap(), now.gap()
	return a > b*3/2+1 || b > a*3/2+1
}

// gap is how many registers cost as much as a request.
func (c Cost) gap() int {
	if c.Register <= 0 {
		return 1000
	}
	return int(min(1000, c.Request/c.Register))
}
