package systemd

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// Groups are control groups that are slice units. Paths are those of a Layout with
// the driver Systemd.
type Groups struct {
	*cgroups.Tree

	socket string
}

// New returns the groups in tree, made by the systemd that listens on socket; empty
// means [cgroups.SystemdSocket].
func New(tree *cgroups.Tree, socket string) *Groups {
	if socket == "" {
		socket = cgroups.SystemdSocket
	}
	return &Groups{Tree: tree, socket: socket}
}

// Ensure makes the slice at group, with all its parents, and sets its limits, in the
// unit and in the kernel: systemd knows neither huge pages nor every controller, and
// rounds.
func (g *Groups) Ensure(group string, l cgroups.Limits) error {
	err := g.with(func(m *manager) error {
		units := strings.Split(strings.Trim(group, "/"), "/")
		limits := properties(l, g.Unified())
		for i, unit := range units {
			props := append(g.accounting(), property("Description", "Pods: "+unit))
			if i > 0 {
				props = append(props, property("Wants", units[i-1:i]))
			}
			last := i == len(units)-1
			if last {
				props = append(props, limits...)
			}
			made, err := m.start(unit, props)
			if err == nil && last && !made {
				err = m.set(unit, limits)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("make cgroup %s: %w", group, err)
	}
	return g.Tree.Ensure(group, l)
}

// accounting has systemd make the group in every hierarchy that it knows.
func (g *Groups) accounting() []unitProperty {
	disk := "BlockIOAccounting"
	if g.Unified() {
		disk = "IOAccounting"
	}
	return []unitProperty{
		property("DefaultDependencies", false),
		property("CPUAccounting", true), property("MemoryAccounting", true),
		property("TasksAccounting", true), property(disk, true),
	}
}

// Remove stops the slices at paths, with all that runs in them, and removes what
// systemd does not know of their groups. A path that is no slice's is of another
// driver: systemd does not hear of it.
func (g *Groups) Remove(paths ...string) error {
	var errs []error
	for _, p := range paths {
		// What is left in it nobody wants; systemd would ask it to end, and wait.
		errs = append(errs, g.Kill(p))
	}
	errs = append(errs, g.with(func(m *manager) error {
		var errs []error
		for _, p := range paths {
			if path.Ext(p) == ".slice" {
				errs = append(errs, m.stop(path.Base(p)))
			}
		}
		return errors.Join(errs...)
	}))
	return errors.Join(append(errs, g.Tree.Remove(paths...))...)
}
