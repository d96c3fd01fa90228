package opcua

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua/discovery"
	"github.com/skerry-io/skerry/devices/opcua/pki"
)

// Config is what a Driver needs.
type Config struct {
	// Dir is where certificates are kept (package pki has its layout).
	Dir string
	// Name is the edge's, which servers see in its certificate.
	Name string
	// Dialer makes connections; nil is a net.Dialer.
	Dialer discovery.Dialer
}

// Driver serves all devices of an edge that are OPC UA servers.
type Driver struct {
	dialer discovery.Dialer
	store  *pki.Store

	mu   sync.Mutex // guards the following field
	hubs map[server]*hub
}

// New opens the directory of certificates, and makes the edge's own at the first
// start.
func New(cfg Config) (*Driver, error) {
	store, err := pki.Open(cfg.Dir, cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("opcua: certificates: %w", err)
	}
	if cfg.Dialer == nil {
		cfg.Dialer = &net.Dialer{}
	}
	return &Driver{dialer: cfg.Dialer, store: store, hubs: map[server]*hub{}}, nil
}

// Open implements devices.Driver.
func (d *Driver) Open(dev *devices.Device, port devices.Port, log *slog.Logger) (devices.Conn, error) {
	s, err := parse(dev)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return newConn(d, dev, s, port, log), nil
}

// join gives the hub of a conn's server and starts it if it is the first there.
// leave waits for what the last one must wait for.
func (d *Driver) join(ctx context.Context, c *conn) (leave func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.hubs[c.settings.server]
	if h == nil {
		h = newHub(d, c.settings.server)
		d.hubs[c.settings.server] = h
		c.hub = h
		h.add(c)
		var running context.Context
		running, h.stop = context.WithCancel(context.WithoutCancel(ctx))
		go func() {
			defer close(h.ended)
			h.run(running)
		}()
	}
	c.hub = h
	h.add(c)
	return func() {
		d.mu.Lock()
		last := h.remove(c)
		if last && d.hubs[c.settings.server] == h {
			delete(d.hubs, c.settings.server)
		}
		d.mu.Unlock()
		if last {
			h.stop()
			<-h.ended
		}
	}
}
