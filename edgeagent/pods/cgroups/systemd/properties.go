package systemd

import (
	"math"

	"github.com/godbus/dbus/v5"

	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// unset is what systemd takes for no limit, and for the weight of a new group.
const unset = uint64(math.MaxUint64)

const (
	perSecond    = 1_000_000 // microseconds
	quotaStep    = 10_000    // systemd keeps whole hundredths of a CPU
	systemPeriod = 100_000   // its CPUQuotaPeriodUSec when nobody says another
)

// unitProperty is (sv) of systemd's D-Bus interface.
type unitProperty struct {
	Name  string
	Value dbus.Variant
}

func property(name string, value any) unitProperty {
	return unitProperty{Name: name, Value: dbus.MakeVariant(value)}
}

// properties are the limits that systemd has a word for.
func properties(l cgroups.Limits, unified bool) []unitProperty {
	var out []unitProperty
	memory := "MemoryLimit"
	if unified {
		memory = "MemoryMax"
	}
	switch {
	case l.CPUShares < 0 && unified:
		out = append(out, property("CPUWeight", unset))
	case l.CPUShares < 0:
		out = append(out, property("CPUShares", unset))
	case l.CPUShares > 0 && unified:
		out = append(out, property("CPUWeight", uint64(cgroups.Weight(l.CPUShares))))
	case l.CPUShares > 0:
		out = append(out, property("CPUShares", uint64(l.CPUShares)))
	}
	if l.CPUQuota < 0 {
		out = append(out, property("CPUQuotaPerSecUSec", unset))
	}
	if l.CPUQuota > 0 && l.CPUPeriod > 0 {
		if l.CPUPeriod != systemPeriod { // not known to systemd before 242
			out = append(out, property("CPUQuotaPeriodUSec", uint64(l.CPUPeriod)))
		}
		out = append(out, property("CPUQuotaPerSecUSec", quota(l.CPUQuota, l.CPUPeriod)))
	}
	for _, p := range []struct {
		name string
		most int64
	}{{memory, l.MemoryLimit}, {"TasksMax", l.PIDs}} {
		switch {
		case p.most < 0:
			out = append(out, property(p.name, unset))
		case p.most > 0:
			out = append(out, property(p.name, uint64(p.most)))
		}
	}
	return out
}

// quota is the time per second, rounded up: down could be to none.
func quota(quota, period int64) uint64 {
	perSec := uint64(quota) * perSecond / uint64(period)
	return (perSec + quotaStep - 1) / quotaStep * quotaStep
}
