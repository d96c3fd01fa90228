package modbus

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/modbus/bus"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
	"github.com/skerry-io/skerry/devices/modbus/plan"
)

// conn is one device on its bus.
type conn struct {
	*config
	driver *Driver
	port   devices.Port
	log    *slog.Logger
	soon   chan struct{} // capacity 1: something was written, poll now

	mu  sync.Mutex // guards the following field
	bus *shared    // nil when Run does not run

	// The rest belongs to the goroutine of Run.
	groups []*group
	known  plan.Known
	meter  *plan.Meter
	last   []devices.Quality // by property, what was delivered
	outbox *outbox
	health health
	outage outage
}

// group is the properties of one interval.
type group struct {
	interval time.Duration
	next     time.Time
	items    []plan.Item // ID is the index in config.properties
	reads    []*poll
	planned  plan.Cost
	polls    int
	retry    time.Time // when refused items are asked for again
}

func newConn(d *Driver, cfg *config, port devices.Port, log *slog.Logger) *conn {
	c := &conn{
		config: cfg, driver: d, port: port, log: log, soon: make(chan struct{}, 1),
		known: plan.Known{MaxRegisters: cfg.registers, MaxBits: cfg.bits},
		meter: plan.NewMeter(guess(cfg.endpoint)),
		last:  make([]devices.Quality, len(cfg.properties)),
	}
	byInterval := map[time.Duration]*group{}
	for i, p := range cfg.properties {
		c.last[i] = devices.BadWaitingForInitialData
		if !p.readable() {
			continue
		}
		g := byInterval[p.interval]
		if g == nil {
			g = &group{interval: p.interval}
			byInterval[p.interval] = g
			c.groups = append(c.groups, g)
		}
		g.items = append(g.items, c.item(i))
	}
	slices.SortFunc(c.groups, func(a, b *group) int { return int(a.interval - b.interval) })
	return c
}

func (c *conn) item(i int) plan.Item {
	codec := c.properties[i].codec
	return plan.Item{Function: codec.Function(), Address: codec.Address, Count: codec.Count, ID: i}
}

// guess is what requests cost before any was measured.
func guess(e Endpoint) plan.Cost {
	if e.Path == "" {
		return plan.Cost{Request: 2 * time.Millisecond, Register: 2 * time.Microsecond}
	}
	const frames, turnaround = 8 + 5, 5 * time.Millisecond // bytes beside the registers
	return plan.Cost{Request: e.Line.Transmit(frames) + 2*e.Line.Gap() + turnaround, Register: e.Line.Transmit(2)}
}

// Run implements devices.Conn.
func (c *conn) Run(ctx context.Context) error {
	c.port.Report(devices.Health{Reason: devices.ReasonConnecting, Message: c.endpoint.String()})
	b, err := c.join(ctx)
	if err != nil {
		return err
	}
	defer c.driver.release(b)
	c.mu.Lock()
	c.bus = b
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.bus = nil
		c.mu.Unlock()
	}()
	c.outbox = newOutbox(c.port)
	delivered := make(chan struct{})
	go func() {
		defer close(delivered)
		c.outbox.run(ctx, c.log)
	}()
	defer func() { <-delivered }()
	c.health = health{conn: c, bus: b}
	select { // a device is not unreachable because it was not yet tried
	case <-b.Tried():
	case <-ctx.Done():
		return ctx.Err()
	}
	if len(c.groups) == 0 {
		return c.watch(ctx)
	}
	return c.schedule(ctx)
}

// join waits until the bus can be had: another device may hold the line with other
// settings.
func (c *conn) join(ctx context.Context) (*shared, error) {
	const again = 5 * time.Second
	for {
		b, err := c.driver.acquire(ctx, c.endpoint, c.log)
		if err == nil {
			return b, nil
		}
		c.port.Report(devices.Health{Reason: "LineConflict", Message: err.Error()})
		if !sleep(ctx, again) {
			return nil, ctx.Err()
		}
	}
}

// watch tells the health of a device of which nothing is read: it asks for its
// identification, which any device answers, if only by refusing.
func (c *conn) watch(ctx context.Context) error {
	for {
		_, err := c.bus.Do(ctx, c.call(pdu.Identify(pdu.Basic, 0), bus.Poll))
		c.health.note(err)
		c.health.report(time.Now())
		if !sleep(ctx, defaultInterval) {
			return ctx.Err()
		}
	}
}

// schedule polls each group at its interval: at whole multiples from the start, so
// that a slow bus drops polls and never shifts or stacks them.
func (c *conn) schedule(ctx context.Context) error {
	begun := time.Now()
	for _, g := range c.groups {
		g.next = begun
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := slices.MinFunc(c.groups, func(a, b *group) int { return a.next.Compare(b.next) })
		timer.Reset(time.Until(next.next))
		select {
		case <-timer.C:
		case <-c.soon:
			next = c.groups[0] // the quickest; the others when they are due
			for _, g := range c.groups {
				g.next = time.Now()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := c.poll(ctx, next); err != nil {
			return err
		}
		now := time.Now()
		elapsed := now.Sub(begun) / next.interval
		if due := begun.Add((elapsed + 1) * next.interval); due.Sub(next.next) > 2*next.interval {
			c.health.missed += uint64(due.Sub(next.next)/next.interval) - 1
			next.next = due
		} else {
			next.next = due
		}
		c.health.report(now)
	}
}

// call is a request to the device.
func (c *conn) call(r pdu.Request, p bus.Priority) bus.Call {
	return bus.Call{Unit: c.unit, Request: r, Priority: p, Timeout: c.timeout, Pause: c.pause}
}

// connected returns the bus, or why there is none.
func (c *conn) connected() (*shared, error) {
	c.mu.Lock()
	b := c.bus
	c.mu.Unlock()
	if b == nil {
		return nil, fmt.Errorf("%w: the driver has not started", devices.ErrNotConnected)
	}
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", devices.ErrNotConnected, err)
	}
	return b, nil
}

// Call implements devices.Conn: Modbus has no methods.
func (c *conn) Call(context.Context, string, []devices.Field) ([]devices.Field, error) {
	return nil, fmt.Errorf("%w: Modbus devices have no methods", devices.ErrUnknownProperty)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
