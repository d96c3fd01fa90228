package results

import "cmp"

// Key says of what values are. An empty Bench is that of the Samples, an empty
// Link is none.
type Key struct{ Bench, Link, System, Metric, Unit string }

// Samples are values that become rows. The zero value is not ready, see
// NewSamples.
type Samples struct {
	bench  string
	values map[Key][]float64
	order  []Key
}

// NewSamples makes samples of a bench.
func NewSamples(bench string) *Samples {
	return &Samples{bench: bench, values: map[Key][]float64{}}
}

// Add adds a value.
func (s *Samples) Add(k Key, v float64) {
	if _, ok := s.values[k]; !ok {
		s.order = append(s.order, k)
	}
	s.values[k] = append(s.values[k], v)
}

// Rows summarize the values of each key, in the order in which they were added
// first.
func (s *Samples) Rows() []Row {
	var rows []Row
	for _, k := range s.order {
		row, ok := Summarize(s.values[k])
		if !ok {
			continue
		}
		row.Bench, row.Link = cmp.Or(k.Bench, s.bench), cmp.Or(k.Link, NoLink)
		row.System, row.Metric, row.Unit = k.System, k.Metric, k.Unit
		rows = append(rows, row)
	}
	return rows
}
