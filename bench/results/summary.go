package results

import (
	"math"
	"slices"
)

// Summarize makes a row's figures of values; of none it returns false. The
// caller names the rest of the row.
func Summarize(values []float64) (Row, bool) {
	if len(values) == 0 {
		return Row{}, false
	}
	return Row{
		Median: round(Percentile(values, 50)),
		Min:    round(slices.Min(values)),
		Max:    round(slices.Max(values)),
		N:      len(values),
	}, true
}

// Percentile is the value that p percent of values are not above, between two
// values linear. Of no values it is NaN.
func Percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := min(max(p, 0), 100) / 100 * float64(len(sorted)-1)
	lower := int(at)
	upper := min(lower+1, len(sorted)-1)
	return sorted[lower] + (at-float64(lower))*(sorted[upper]-sorted[lower])
}

// round keeps three decimals: a microsecond of a millisecond.
func round(x float64) float64 { return math.Round(x*1000) / 1000 }
