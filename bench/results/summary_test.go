package results

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPercentile(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []float64
		p      float64
		want   float64
	}{
		{"one value", []float64{7}, 50, 7},
		{"odd number", []float64{3, 1, 2}, 50, 2},
		{"even number", []float64{4, 1, 3, 2}, 50, 2.5},
		{"negative", []float64{-5, -1, -3}, 50, -3},
		{"lowest", []float64{3, 1, 2}, 0, 1},
		{"highest", []float64{3, 1, 2}, 100, 3},
		{"between two", []float64{0, 10, 20, 30, 40}, 90, 36},
		{"on one", []float64{0, 10, 20, 30, 40}, 75, 30},
		{"below all", []float64{1, 2}, -1, 1},
		{"above all", []float64{1, 2}, 101, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := append([]float64(nil), tt.values...)
			if got := Percentile(tt.values, tt.p); got != tt.want {
				t.Errorf("got %g, want %g", got, tt.want)
			}
			if diff := cmp.Diff(before, tt.values); diff != "" {
				t.Errorf("the values were changed (-before +after):\n%s", diff)
			}
		})
	}
	if got := Percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("got %g of no values", got)
	}
}

func TestSummarize(t *testing.T) {
	got, ok := Summarize([]float64{2.00049, 1, 10})
	if want := (Row{Median: 2, Min: 1, Max: 10, N: 3}); !ok || got != want {
		t.Errorf("got %+v, %t", got, ok)
	}
	if got, ok := Summarize(nil); ok {
		t.Errorf("got %+v of no values", got)
	}
}
