package cgroups

import (
	"path"
	"strings"
)

// Driver is who makes control groups, and so how they are called.
type Driver string

// The drivers, by the kubelet's names.
const (
	Cgroupfs Driver = "cgroupfs"
	Systemd  Driver = "systemd"
)

// SystemdSocket is where systemd listens for root.
const SystemdSocket = "/run/systemd/private"

// The groups below that of all pods, by class. Guaranteed pods are beside them.
const (
	Burstable  = "burstable"
	BestEffort = "besteffort"
)

// Classes are where pods may be: empty is that of guaranteed ones.
func Classes() []string { return []string{"", Burstable, BestEffort} }

const (
	podPrefix = "pod"
	slice     = ".slice"
	scope     = ".scope"
)

// Layout says where pods have their groups, as a kubelet with the same driver would
// call them: /skerry/burstable/podUID, or with systemd
// /skerry.slice/skerry-burstable.slice/skerry-burstable-podUID.slice.
type Layout struct {
	// Root is the parent of all pods' groups, such as /skerry, whatever the driver.
	Root   string
	Driver Driver
}

// Other is the layout that the runtime had before it was given another driver.
func (l Layout) Other() Layout {
	if l.Driver == Systemd {
		return Layout{Root: l.Root, Driver: Cgroupfs}
	}
	return Layout{Root: l.Root, Driver: Systemd}
}

// Group is the path of the group below Root that elem names, one level each; Root's
// own without any. Empty elements count for nothing.
func (l Layout) Group(elem ...string) string {
	if l.Driver != Systemd {
		return path.Join(append([]string{"/", l.Root}, elem...)...)
	}
	out, unit := "/", ""
	for part := range strings.SplitSeq(path.Join(append([]string{l.Root}, elem...)...), "/") {
		if part == "" {
			continue
		}
		// A dash in the name of a slice says whose child it is.
		part = strings.ReplaceAll(part, "-", "_")
		if unit != "" {
			part = unit + "-" + part
		}
		unit = part
		out = path.Join(out, unit+slice)
	}
	return out
}

// Pod is the path of a pod's group. The class is empty for guaranteed pods.
func (l Layout) Pod(class, uid string) string { return l.Group(class, podPrefix+uid) }

// PodUID tells whose group it is that has this name, its path's last element.
func (l Layout) PodUID(name string) (uid string, ok bool) {
	if l.Driver == Systemd {
		if name, ok = strings.CutSuffix(name, slice); !ok {
			return "", false
		}
		name = strings.ReplaceAll(name[strings.LastIndexByte(name, '-')+1:], "_", "-")
	}
	return strings.CutPrefix(name, podPrefix)
}

// Containers are the paths where runtimes make the group of a container, or of a
// sandbox, in a pod's group: containerd's first, then CRI-O's.
func (l Layout) Containers(pod, id string) []string {
	if l.Driver == Systemd {
		return []string{path.Join(pod, "cri-containerd-"+id+scope), path.Join(pod, "crio-"+id+scope)}
	}
	return []string{path.Join(pod, id), path.Join(pod, "crio-"+id)}
}
