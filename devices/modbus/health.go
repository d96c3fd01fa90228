package modbus

import (
	"errors"
	"fmt"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/modbus/bus"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

// health is how the device does, from what its polls came back with.
type health struct {
	conn    *conn
	bus     *shared
	answers int // since the last report, refusals included
	err     error
	refused int    // properties
	missed  uint64 // polls that the bus was too slow for

	lastMissed uint64
	said       devices.Health
	at         time.Time
}

// note takes the end of a call.
func (h *health) note(err error) {
	var e *pdu.Exception
	if err == nil || errors.As(err, &e) && e.Code != pdu.GatewayTarget && e.Code != pdu.GatewayPath {
		h.answers++
		return
	}
	h.err = err
}

// report tells the port: changes at once, counters each second.
func (h *health) report(now time.Time) {
	const often = time.Second
	s := devices.Health{Connected: h.answers > 0, Reason: devices.ReasonConnected, Message: h.conn.endpoint.String()}
	if h.answers == 0 {
		if h.err == nil {
			return // nothing was asked
		}
		s.Reason, s.Message = reason(h.err), h.err.Error()
	}
	switch {
	case h.refused > 0:
		s.Degraded, s.DegradedMessage = "Refused", fmt.Sprintf("the device refuses %d of %d properties; see their quality", h.refused, len(h.conn.properties))
	case h.missed > h.lastMissed:
		s.Degraded, s.DegradedMessage = "SlowBus", "the bus is too slow for the polling intervals: polls are left out"
	}
	changed := s.Connected != h.said.Connected || s.Reason != h.said.Reason || s.Degraded != h.said.Degraded
	if !changed && now.Sub(h.at) < often {
		h.answers, h.err = 0, nil
		return
	}
	stats := h.bus.Stats()
	s.Counters = map[string]uint64{
		"requests": stats.Requests, "answers": stats.Answers, "exceptions": stats.Exceptions, "timeouts": stats.Timeouts,
		"late": stats.Late, "damaged": stats.Damaged, "garbage_bytes": stats.Garbage, "reconnects": stats.Drops, "missed_polls": h.missed,
	}
	h.conn.port.Report(s)
	h.said, h.at, h.answers, h.err, h.lastMissed = s, now, 0, nil, h.missed
}

// reason is the word for an error.
func reason(err error) string {
	var demoted *bus.DemotedError
	switch {
	case errors.Is(err, bus.ErrNotConnected):
		return devices.ReasonUnreachable
	case errors.Is(err, bus.ErrTimeout), errors.As(err, &demoted), errors.Is(err, bus.ErrQueueFull):
		return devices.ReasonTimeout
	default:
		return devices.ReasonProtocol
	}
}
