package certs_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/certs"
)

// Clocks that are wrong, the edge's, the proxy's, or both. The proxy's certificate
// is 20 days old and valid for 10 more; the edge's own began with it. An edge that
// is refused looks at the certificate once and dials again.
func TestClocksWrong(t *testing.T) {
	const years = 10 * 365 * day
	type history func(c *certs.Clock)
	told := func(ahead time.Duration) history {
		return func(c *certs.Clock) { c.Told(time.Now().Add(ahead)) }
	}
	kept := func(ahead, localAhead time.Duration) history {
		return func(c *certs.Clock) { c.Kept(time.Now().Add(ahead), localAhead) }
	}
	for name, tt := range map[string]struct {
		local   time.Duration // how far the edge's clock is ahead
		history []history
		reached bool
	}{
		"right":                              {0, nil, true},
		"hours behind":                       {-5 * time.Hour, nil, true},
		"years behind":                       {-years, nil, true},
		"years behind, told":                 {-years, []history{told(0)}, true},
		"hours ahead":                        {5 * time.Hour, nil, true},
		"days ahead, within the certificate": {9 * day, nil, true},
		"years ahead":                        {years, nil, false}, // as a right clock and an expired certificate
		"years ahead, told":                  {years, []history{told(0)}, true},
		"years ahead, booted again":          {years, []history{kept(-day, years)}, true},
		"was years ahead, set right since":   {0, []history{kept(-day, years)}, true},
		"was years behind, set right since":  {0, []history{kept(-day, -years)}, true},

		"proxy was days ahead":                      {0, []history{told(20 * day)}, true},
		"proxy was days ahead, edge booted again":   {0, []history{kept(20*day, -20*day)}, true},
		"proxy was days behind, edge booted again":  {0, []history{kept(-15*day, 15*day)}, true},
		"proxy is days ahead in this session only":  {0, []history{told(0), told(20 * day)}, true},
		"both: hours behind":                        {-5 * time.Hour, []history{told(20 * day)}, true},
		"both: years behind, told right before":     {-years, []history{told(0), told(20 * day)}, true},
		"both: years behind, told right twice":      {-years, []history{told(0), told(20 * day), told(20*day + time.Second)}, true},
		"both: years behind, nobody was ever right": {-years, []history{told(20 * day)}, false}, // as an expired certificate
		"both: years behind, booted before":         {-years, []history{kept(0, -years), told(20 * day)}, true},
		"both: years behind, was off before":        {-years, []history{kept(-5*day, -years), told(20 * day)}, true},
		"both: years ahead, booted before":          {years, []history{kept(0, years), told(20 * day)}, true},
		"both: years ahead, told right before":      {years, []history{told(0), told(20 * day)}, true},
		"both: years ahead, nobody was ever right":  {years, []history{told(20 * day)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := newCA(t, cluster)
				server := serverPair(t, ca, cluster)
				joined := time.Now()
				time.Sleep(20 * day) //nolint:forbidigo // virtual time
				clock := skewed(tt.local)
				clock.NotBefore(joined)
				for _, h := range tt.history {
					h(clock)
				}
				err := meet(t, clock, ca, server)
				if err != nil {
					if _, lerr := learn(t, clock, ca, server, ca); lerr != nil {
						t.Fatal(lerr)
					}
					err = meet(t, clock, ca, server)
				}
				if (err == nil) != tt.reached {
					t.Errorf("reached %v, want %v: %v", err == nil, tt.reached, err)
				}
			})
		})
	}
}

// What a look at the certificate may not do: to make one valid that has expired by
// the edge's own clock, or by a clock that is shown to be wrong.
func TestClockLearnsNoExpired(t *testing.T) {
	const years = 10 * 365 * day
	for name, tt := range map[string]struct {
		local time.Duration
		told  bool // by a cloud that was right
		kept  bool // in a session on the day of joining
	}{
		"right":                     {0, false, false},
		"right, told":               {0, true, false},
		"right, kept":               {0, false, true},
		"behind before it joined":   {-40*day - time.Minute, true, false},
		"years behind, told":        {-years, true, false},
		"years ahead, told":         {years, true, false},
		"years ahead, no more told": {years, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := newCA(t, cluster)
				server := serverPair(t, ca, cluster)
				joined := time.Now()
				clock := skewed(tt.local)
				clock.NotBefore(joined)
				if tt.kept {
					clock.Kept(joined, 0)
				}
				time.Sleep(40 * day) //nolint:forbidigo // virtual time
				if tt.told {
					clock.Told(time.Now())
				}
				if news, err := learn(t, clock, ca, server, ca); news || err != nil {
					t.Errorf("news %v, %v", news, err)
				}
				if err := meet(t, clock, ca, server); err == nil {
					t.Error("the expired certificate is taken")
				}
			})
		})
	}
}

// What is kept for the next start is the lowest of what two clouds said: a floor that
// is too low is mended by the next certificate, one that is too high by nothing.
func TestClockKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := skewed(5 * day)
		want := func(step string, after, localAhead time.Duration) {
			t.Helper()
			known, ahead := clock.Known()
			if got := time.Until(known); got != after || ahead != localAhead {
				t.Errorf("%s: known %v from now, local ahead by %v; want %v, %v", step, got, ahead, after, localAhead)
			}
		}
		clock.Told(time.Now())
		want("right", 0, 5*day)
		clock.Told(time.Now().Add(20 * day))
		want("ahead", 0, 5*day)
		clock.Told(time.Now().Add(20*day + time.Minute))
		want("still ahead", 0, 5*day)
		clock.Told(time.Now())
		want("right again", 0, 5*day)
		clock.Told(time.Now().Add(-3 * day))
		want("behind", -3*day, 8*day)
	})
}

// An edge that was off finds that it is later than what it kept. Where its own clock
// says the same as the cloud that is so; where it has none the cloud may be ahead.
func TestClockKeepsAfterOff(t *testing.T) {
	const years = 10 * 365 * day
	for name, tt := range map[string]struct {
		local, told, want time.Duration // from now; want is what to keep
	}{
		"right":                       {0, 0, 0},
		"no clock":                    {-years, 0, -2 * day},
		"no clock, proxy days ahead":  {-years, 20 * day, -2 * day},
		"right, proxy days ahead":     {0, 20 * day, -2 * day},
		"right, proxy behind by more": {0, -3 * day, -3 * day},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := skewed(tt.local)
				clock.Kept(time.Now().Add(-2*day), 0)
				clock.Told(time.Now().Add(tt.told))
				if known, _ := clock.Known(); time.Until(known) != tt.want {
					t.Errorf("keeps %v from now, want %v", time.Until(known), tt.want)
				}
				if now := clock.Now(); time.Until(now) != tt.told {
					t.Errorf("%v from now, want what was told, %v", time.Until(now), tt.told)
				}
			})
		})
	}
}
