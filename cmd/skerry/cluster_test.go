package main

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slowCluster answers after some time, or fails where it is negative.
type slowCluster time.Duration

func (s slowCluster) RoundTrip(*http.Request) (*http.Response, error) {
	if s < 0 {
		return nil, errors.New("no route to host")
	}
	<-time.After(time.Duration(s))
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

// A cluster that accepts and does not answer leaves nobody before a blank screen.
func TestClusterThatIsSlow(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration
		says  int
	}{
		"at once": {0, 0},
		"soon":    {quietWait - time.Second, 0},
		"slow":    {quietWait + time.Second, 1},
		"fails":   {-1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out strings.Builder
				a := &advisor{next: slowCluster(c.takes), out: &out}
				for range 2 {
					r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://192.0.2.7:6443/version", http.NoBody)
					if err != nil {
						t.Fatal(err)
					}
					resp, err := a.RoundTrip(r)
					if err == nil {
						resp.Body.Close()
					}
					if (err != nil) != (c.takes < 0) || err != nil && !strings.Contains(err.Error(), "next: kubectl cluster-info") {
						t.Errorf("error %v", err)
					}
				}
				synctest.Wait()
				if got := strings.Count(out.String(), "waiting for the cluster at 192.0.2.7:6443"); got != c.says {
					t.Errorf("said %q, want %d lines", out.String(), c.says)
				}
			})
		})
	}
}
