package main

import (
	"cmp"

	"github.com/skerry-io/skerry/bench/results"
)

// sampleKey says of what values are. An empty bench is this one, an empty link
// is none.
type sampleKey struct{ bench, link, system, metric, unit string }

// samples are values that become rows.
type samples struct {
	values map[sampleKey][]float64
	order  []sampleKey
}

func newSamples() *samples { return &samples{values: map[sampleKey][]float64{}} }

func (s *samples) add(k sampleKey, v float64) {
	if _, ok := s.values[k]; !ok {
		s.order = append(s.order, k)
	}
	s.values[k] = append(s.values[k], v)
}

// rows summarize the values of each key.
func (s *samples) rows() []results.Row {
	var rows []results.Row
	for _, k := range s.order {
		row, ok := results.Summarize(s.values[k])
		if !ok {
			continue
		}
		row.Bench, row.Link = cmp.Or(k.bench, name), cmp.Or(k.link, results.NoLink)
		row.System, row.Metric, row.Unit = k.system, k.metric, k.unit
		rows = append(rows, row)
	}
	return rows
}
