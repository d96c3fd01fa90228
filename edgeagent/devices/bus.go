package devices

import "github.com/skerry-io/skerry/devices"

// Name is a Device's.
type Name struct{ Namespace, Name string }

// Bus is told on this edge what the devices tell, each sample and not only what goes
// up; bus.Bus is one. Its methods are called by drivers and may not block, and keep
// nothing of what they are given but the values, which nobody changes.
type Bus interface {
	// Device says that there is a device, with these properties and no others. It is
	// said again when they change, and when the device is opened anew.
	Device(n Name, properties []string)
	// Samples tells what the disk has, for each property in the device's order.
	Samples(n Name, samples []devices.Sample)
	// Gaps tells what is known to be missing.
	Gaps(n Name, gaps []devices.Gap)
	// Health says how a device is. The same may be said again.
	Health(n Name, h devices.Health)
	// Removed says that a device is no longer this edge's.
	Removed(n Name)
}

// noBus is what a Manager without a bus tells.
type noBus struct{}

func (noBus) Device(Name, []string)          {}
func (noBus) Samples(Name, []devices.Sample) {}
func (noBus) Gaps(Name, []devices.Gap)       {}
func (noBus) Health(Name, devices.Health)    {}
func (noBus) Removed(Name)                   {}

func (w *worker) busName() Name { return Name{w.namespace, w.name} }

// introduceLocked tells the bus of the device as it is configured.
func (w *worker) introduceLocked() { w.cfg.Bus.Device(w.busName(), w.order) }

// tellBus tells what a driver delivered, when it is on the disk.
func (w *worker) tellBus(b devices.Batch) {
	w.mu.Lock()
	known := b.Samples
	for i, s := range b.Samples {
		if w.twins[s.Property] != nil {
			continue
		}
		known = append([]devices.Sample(nil), b.Samples[:i]...)
		for _, s := range b.Samples[i+1:] {
			if w.twins[s.Property] != nil {
				known = append(known, s)
			}
		}
		break
	}
	w.mu.Unlock()
	if len(known) > 0 {
		w.cfg.Bus.Samples(w.busName(), known)
	}
	if len(b.Gaps) > 0 {
		w.cfg.Bus.Gaps(w.busName(), b.Gaps)
	}
}
