package sim

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// Driver opens simulated devices. The zero value is ready.
type Driver struct{}

// Open implements devices.Driver.
func (Driver) Open(dev *devices.Device, port devices.Port, log *slog.Logger) (devices.Conn, error) {
	spec := dev.Spec.Protocol.Sim
	if spec == nil {
		return nil, &devices.ConfigError{Field: "spec.protocol.sim", Reason: "is missing"}
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &conn{dev: dev, port: port, log: log, interval: spec.Interval.Or(time.Second)}
	if c.interval <= 0 {
		return nil, &devices.ConfigError{Field: "spec.protocol.sim.interval", Reason: "must be above 0s"}
	}
	for i, dp := range dev.Spec.Properties {
		p, ok := dev.Property(dp.Name)
		if !ok {
			return nil, &devices.ConfigError{
				Field: fmt.Sprintf("spec.properties[%d].name", i), Reason: fmt.Sprintf("the model has no property %q", dp.Name),
			}
		}
		g := generator{property: p, wave: v1alpha1.WaveConstant, amplitude: 1, period: time.Minute, seed: spec.Seed + int64(i)}
		if dp.Sim != nil {
			g.configure(dp.Sim)
		}
		if _, number := devices.Float(zero(p.ValueType, &dev.Model)); g.wave != v1alpha1.WaveConstant && !number {
			return nil, &devices.ConfigError{
				Field:  fmt.Sprintf("spec.properties[%d].sim.waveform", i),
				Reason: fmt.Sprintf("%s needs a number type, and property %s has %s", g.wave, p.Name, p.Type),
			}
		}
		c.generators = append(c.generators, g)
	}
	c.load(port.State())
	return c, nil
}
