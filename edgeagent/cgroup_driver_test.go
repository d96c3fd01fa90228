package edgeagent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// configured is a runtime that tells its driver, and counts who wants to know.
type configured struct {
	down   error
	driver string
	asked  int
}

func (c *configured) Version(context.Context) (cri.Version, error) { return cri.Version{}, c.down }

func (c *configured) Health(context.Context) (cri.Health, error) {
	return cri.Health{RuntimeReady: true, NetworkReady: true}, c.down
}

func (c *configured) CgroupDriver(context.Context) (string, error) {
	c.asked++
	return c.driver, c.down
}

// TestDriverWatch: to ask costs containerd 1.6 its whole configuration, so that it is
// asked seldom, but when it comes back, and until it is right.
func TestDriverWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &configured{driver: "cgroupfs"}
		a := newAbilities(c, cgroups.Cgroupfs)
		look := func(what string, times, asked int, fails bool) {
			t.Helper()
			c.asked = 0
			var err error
			for range times {
				_, err = a.version(t.Context())
				<-time.After(10 * time.Second)
			}
			if c.asked != asked || (err != nil) != fails {
				t.Errorf("%s: asked %d times, want %d; %v", what, c.asked, asked, err)
			}
		}
		look("an hour", 360, 12, false)
		c.down = errors.New("gone")
		look("gone", 3, 0, true)
		c.down = nil
		look("back", 29, 1, false)
		c.driver = "systemd"
		look("another, and it was not seen to be gone", 32, 31, true)
		c.driver = "cgroupfs"
		look("right again", 10, 1, false)
	})
}
