package modbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/modbus/bus"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// Identify asks a device that need not be a Device who it is (function 43/14): on the
// bus that Devices have for it, or on one of its own for that long. The error is a
// *devices.ConfigError, why there is no bus, or the device's.
func (d *Driver) Identify(ctx context.Context, m v1alpha1.Modbus) (survey.Identification, error) {
	dev := &devices.Device{Spec: v1alpha1.DeviceSpec{Protocol: v1alpha1.Protocol{Modbus: &m}}}
	cfg, err := parse(dev)
	if err != nil {
		return survey.Identification{}, err
	}
	log := slog.New(slog.DiscardHandler)
	b, err := d.acquire(ctx, cfg.endpoint, log)
	if err != nil {
		return survey.Identification{}, err
	}
	defer d.release(b)
	select {
	case <-b.Tried():
	case <-ctx.Done():
		return survey.Identification{}, ctx.Err()
	}
	c := newConn(d, cfg, nil, log)
	objects, err := c.identify(ctx, b, pdu.Regular)
	if errors.Is(err, &pdu.Exception{Code: pdu.IllegalDataValue}) || errors.Is(err, &pdu.Exception{Code: pdu.IllegalDataAddress}) {
		objects, err = c.identify(ctx, b, pdu.Basic) // all that some devices have
	}
	switch {
	case errors.Is(err, &pdu.Exception{Code: pdu.IllegalFunction}):
		return survey.Identification{}, fmt.Errorf("the device answers, but does not have function 43/14 by which it would say who it is: %w", err)
	case errors.Is(err, bus.ErrTimeout):
		return survey.Identification{}, fmt.Errorf("unit %d at %s does not answer: it is not there, or has no function 43/14 and does not say so: %w", cfg.unit, cfg.endpoint, err)
	case err != nil:
		return survey.Identification{}, fmt.Errorf("unit %d at %s: %w", cfg.unit, cfg.endpoint, refusal(err))
	}
	var out survey.Identification
	for _, o := range objects {
		out.Objects = append(out.Objects, survey.IdentityObject{ID: int(o.ID), Name: objectName(o.ID), Value: strings.ToValidUTF8(o.Value, "�")})
	}
	return out, nil
}

// objectName is the standard's name of an object (section 6.21).
func objectName(id byte) string {
	names := [...]string{
		pdu.VendorName: "VendorName", pdu.ProductCode: "ProductCode", pdu.MajorMinorRevision: "MajorMinorRevision", pdu.VendorURL: "VendorUrl",
		pdu.ProductName: "ProductName", pdu.ModelName: "ModelName", pdu.ApplicationName: "UserApplicationName",
	}
	if int(id) < len(names) {
		return names[id]
	}
	return ""
}
