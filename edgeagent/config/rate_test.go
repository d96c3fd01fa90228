package config

import "testing"

// A rate is in bits per second, and none means no bound.
func TestBytesPerSecond(t *testing.T) {
	for _, tt := range []struct {
		rate string
		want int64
	}{{"", 0}, {"2M", 250_000}, {"64k", 8_000}, {"1.5G", 187_500_000}} {
		c := Config{MaxRate: tt.rate}
		if got, err := c.BytesPerSecond(); got != tt.want || err != nil {
			t.Errorf("%q: %d, %v, want %d", tt.rate, got, err, tt.want)
		}
	}
}
