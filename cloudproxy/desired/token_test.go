package desired

import (
	"testing"
	"time"
)

func TestRenewal(t *testing.T) {
	issued := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		seconds int64
		age     time.Duration // at which it is replaced, or up to 2 % of its life before
	}{
		{600, 480 * time.Second},
		{3607, 3607 * 800 * time.Millisecond},
		{24 * 3600, 12 * time.Hour},
		{7 * 24 * 3600, 24 * time.Hour},
	} {
		life := time.Duration(tt.seconds) * time.Second
		tok := &token{spec: tokenSpec{seconds: tt.seconds}}
		for range 100 {
			if got := tok.renewal(issued.Add(life)).Sub(issued); got > tt.age || got < tt.age-life/50-time.Second {
				t.Fatalf("a token of %v is replaced at the age of %v, want up to 2 %% of its life before %v", life, got, tt.age)
			}
		}
	}
}
