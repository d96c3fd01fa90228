package opcua

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua/channel"
	"github.com/skerry-io/skerry/devices/opcua/pki"
)

// conn is one device. It implements devices.Conn.
type conn struct {
	driver   *Driver
	dev      *devices.Device
	settings *settings
	port     devices.Port
	log      *slog.Logger
	inbox    *inbox
	hub      *hub

	mu       sync.Mutex // guards the following fields
	running  bool
	link     *link // nil without a connection
	sub      *sub  // nil before the first, and when it has ended
	saved    state // as read at the start, id 0 once it was used
	stored   map[*sub]uint32
	health   devices.Health
	counters map[string]uint64
	linked   chan struct{} // closed when link is set, made anew when it is not
	left     chan struct{} // closed when Run ends
}

func newConn(d *Driver, dev *devices.Device, s *settings, port devices.Port, log *slog.Logger) *conn {
	return &conn{
		driver: d, dev: dev, settings: s, port: port, log: log, inbox: newInbox(),
		counters: map[string]uint64{}, stored: map[*sub]uint32{}, linked: make(chan struct{}), left: make(chan struct{}),
	}
}

var errLeft = errors.New("the device is not driven any more")

// Run implements devices.Conn.
func (c *conn) Run(ctx context.Context) error {
	c.recall()
	c.report(devices.Health{Reason: devices.ReasonConnecting})
	leave := c.driver.join(ctx, c)
	c.deliver(ctx)
	close(c.left)
	c.mu.Lock()
	c.running = false
	c.mu.Unlock()
	leave()
	return ctx.Err()
}

// recall takes up what was saved.
func (c *conn) recall() {
	saved, err := decodeState(c.port.State())
	if err != nil {
		saved = state{}
		if len(c.port.State()) > 0 {
			c.log.Warn("saved state not used", "error", err)
		}
	}
	for _, it := range c.settings.items {
		if t, ok := saved.times[it.key]; ok {
			it.last, it.resync = t.last, t.resync
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saved = saved
	c.running = true
}

// linkNow is the link, or ErrNotConnected.
func (c *conn) linkNow() (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil {
		return nil, devices.ErrNotConnected
	}
	return c.link, nil
}

func (c *conn) setLink(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case l != nil && c.link == nil:
		close(c.linked)
	case l == nil && c.link != nil:
		c.linked = make(chan struct{})
	}
	c.link = l
}

// awaitLink waits for a connection.
func (c *conn) awaitLink(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		l, linked := c.link, c.linked
		c.mu.Unlock()
		if l != nil {
			return l, nil
		}
		select {
		case <-linked:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (c *conn) count(what string, n uint64) {
	c.mu.Lock()
	c.counters[what] += n
	c.mu.Unlock()
}

// report tells the port, with the counters.
func (c *conn) report(h devices.Health) {
	c.mu.Lock()
	if h.Connected != c.health.Connected || c.health.Since.IsZero() {
		h.Since = time.Now()
	} else {
		h.Since = c.health.Since
	}
	if h.Degraded == "" && h.Connected {
		h.Degraded, h.DegradedMessage = c.degradedLocked()
	}
	c.health = h
	h.Counters = make(map[string]uint64, len(c.counters))
	maps.Copy(h.Counters, c.counters)
	c.mu.Unlock()
	c.port.Report(h)
}

// again reports the same with what has changed.
func (c *conn) again() {
	c.mu.Lock()
	h := c.health
	h.Degraded, h.DegradedMessage = "", ""
	c.mu.Unlock()
	c.report(h)
}

// disconnected tells why there is no connection.
func (c *conn) disconnected(err error) {
	if err == nil {
		return
	}
	c.count("disconnects", 1)
	h := devices.Health{Reason: reason(err), Message: limit(err.Error())}
	if rejected, ok := errors.AsType[*pki.RejectedError](err); ok {
		h.Fingerprint = rejected.Fingerprint
	}
	c.log.Info("no connection", "reason", h.Reason, "error", err)
	c.report(h)
}

func limit(s string) string {
	const most = 512
	if len(s) > most {
		return s[:most]
	}
	return s
}

// reason is an error in one word.
func reason(err error) string {
	var rejected *pki.RejectedError
	var network net.Error
	switch {
	case errors.As(err, &rejected):
		return devices.ReasonNotTrusted
	case errors.Is(err, errSecret):
		return devices.ReasonNoSecret
	case userRejected(err):
		return devices.ReasonUserRejected
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ua.StatusBadTimeout), errors.As(err, &network) && network.Timeout():
		return devices.ReasonTimeout
	case errors.Is(err, channel.ErrSecurity):
		return devices.ReasonProtocol
	case refused(err):
		return devices.ReasonRefused
	}
	return devices.ReasonUnreachable
}
