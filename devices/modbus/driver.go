package modbus

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/modbus/bus"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

// Driver is the devices.Driver of Modbus. The zero value is ready.
type Driver struct {
	// Dial replaces how buses connect; nil is by TCP and by the serial lines of the edge.
	Dial func(ctx context.Context, e Endpoint) (bus.Conn, error)

	mu    sync.Mutex // guards the following fields
	buses map[string]*shared
}

// shared is a bus and who uses it.
type shared struct {
	*bus.Bus
	endpoint Endpoint
	users    int
	stop     context.CancelFunc
	done     chan struct{}
}

// Open implements devices.Driver.
func (d *Driver) Open(dev *devices.Device, port devices.Port, log *slog.Logger) (devices.Conn, error) {
	cfg, err := parse(dev)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return newConn(d, cfg, port, log), nil
}

// acquire returns the bus of an endpoint, running. Each must be released.
func (d *Driver) acquire(ctx context.Context, e Endpoint, log *slog.Logger) (*shared, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.buses[e.key()]; s != nil {
		if s.endpoint != e {
			return nil, fmt.Errorf("another device uses %s with other settings: %v, this one asks for %v", e.key(), s.endpoint, e)
		}
		s.users++
		return s, nil
	}
	dial := d.Dial
	if dial == nil {
		dial = Dial
	}
	b, err := bus.New(bus.Config{
		Dial: func(ctx context.Context) (bus.Conn, error) { return dial(ctx, e) },
		RTU:  e.RTU, Line: e.Line, Log: log.With("bus", e.key()),
	})
	if err != nil {
		return nil, err
	}
	// The bus outlives the device that came first: the last one to go stops it.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &shared{Bus: b, endpoint: e, users: 1, stop: stop, done: make(chan struct{})}
	if d.buses == nil {
		d.buses = map[string]*shared{}
	}
	d.buses[e.key()] = s
	go func() {
		defer close(s.done)
		_ = b.Run(ctx) // ends by stop only
	}()
	return s, nil
}

// release gives a bus back. The last one waits until it has stopped.
func (d *Driver) release(s *shared) {
	d.mu.Lock()
	s.users--
	last := s.users == 0
	if last {
		delete(d.buses, s.endpoint.key())
	}
	d.mu.Unlock()
	if last {
		s.stop()
		<-s.done
	}
}

// Identifier is a devices.Conn that can ask its device who it is. Those of this
// package are.
type Identifier interface {
	Identify(ctx context.Context, category pdu.Category) ([]pdu.Object, error)
}
