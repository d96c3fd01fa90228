package edgeagent

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/skerry-io/skerry/edgeagent/config"
	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// groups says where pods have their control groups: made by whom the configuration
// says, else by whom the runtime says. A runtime that refuses every pod is better told
// of at once.
func (a *Agent) groups(ctx context.Context, client *cri.Client) (cgroups.Layout, error) {
	out := cgroups.Layout{Root: a.cfg.CgroupRoot, Driver: cgroups.Cgroupfs}
	theirs, err := client.CgroupDriver(ctx)
	switch {
	case a.cfg.CgroupDriver != config.Auto:
		out.Driver = cgroups.Driver(a.cfg.CgroupDriver)
		if theirs != "" && theirs != a.cfg.CgroupDriver {
			a.log.Warn("the runtime says that it makes control groups by another driver than the configuration's", "runtime", theirs, "cgroup_driver", a.cfg.CgroupDriver)
		}
	case err != nil:
		return out, err
	case theirs != "":
		out.Driver = cgroups.Driver(theirs)
	}
	if out.Driver != cgroups.Systemd {
		return out, nil
	}
	if _, err := os.Stat(cgroups.SystemdSocket); err != nil {
		return out, fmt.Errorf("the container runtime makes control groups by systemd, which does not run here (%w): set SystemdCgroup = false for runc in /etc/containerd/config.toml and restart containerd", err)
	}
	return out, nil
}

// expected is what the runtime should say while the agent runs; empty where the
// configuration knows better.
func (a *Agent) expected(groups cgroups.Layout) cgroups.Driver {
	if a.cfg.CgroupDriver != config.Auto {
		return ""
	}
	return groups.Driver
}

// driverInterval is how often a runtime that seems to run on is asked for its driver:
// before containerd 2.0 it answers with all of its configuration.
const driverInterval = 5 * time.Minute

// driverWatch tells of a runtime that was configured anew while the agent ran.
type driverWatch struct {
	ours cgroups.Driver // whom the runtime should have make control groups; empty for any
	next time.Time      // when to ask it again; zero means now
}

// changed asks at once while the runtime is new or has the wrong driver, else every
// driverInterval.
func (w *driverWatch) changed(ctx context.Context, client asked) error {
	if w.ours == "" || time.Now().Before(w.next) {
		return nil
	}
	theirs, err := client.CgroupDriver(ctx)
	switch {
	case err != nil:
		return nil //nolint:nilerr // one that does not answer is told of elsewhere
	case theirs != "" && theirs != string(w.ours):
		return fmt.Errorf("the container runtime makes control groups by %s now, and the agent by %s: restart the agent", theirs, w.ours)
	}
	w.next = time.Now().Add(driverInterval)
	return nil
}
