package opcua

import (
	"context"
	"errors"
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
	// Dir is where certificates are kept (package pki has its layout). Required, as Name
	// is.
	Dir string
	// Name is the edge's, which servers see in its certificate.
	Name string
	// Dialer makes connections; nil is a net.Dialer.
	Dialer discovery.Dialer
}

// Driver serves all devices of an edge that are OPC UA servers.
type Driver struct {
	cfg Config

	mu    sync.Mutex // guards the following fields
	store *pki.Store // nil until the first device is opened; it doesn't change then
	hubs  map[server]*hub
}

// New touches nothing: an edge without such devices has no certificates, and needs no
// time to make a key.
func New(cfg Config) (*Driver, error) {
	if cfg.Dir == "" || cfg.Name == "" {
		return nil, errors.New("opcua config: Dir and Name are required")
	}
	if cfg.Dialer == nil {
		cfg.Dialer = &net.Dialer{}
	}
	return &Driver{cfg: cfg, hubs: map[server]*hub{}}, nil
}

// certificates opens the directory of certificates, and makes the edge's own the first
// time.
func (d *Driver) certificates() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.store != nil {
		return nil
	}
	store, err := pki.Open(d.cfg.Dir, d.cfg.Name)
	if err != nil {
		return fmt.Errorf("opcua: certificates: %w", err)
	}
	d.store = store
	return nil
}

// pki gives what certificates has opened.
func (d *Driver) pki() *pki.Store {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.store
}

// Open implements devices.Driver.
func (d *Driver) Open(dev *devices.Device, port devices.Port, log *slog.Logger) (devices.Conn, error) {
	s, err := parse(dev)
	if err != nil {
		return nil, err
	}
	if err := d.certificates(); err != nil {
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
