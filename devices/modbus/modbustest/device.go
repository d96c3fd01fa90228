package modbustest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/devices/modbus/frame"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

// Device answers for its units, one request after the other, as a gateway to a
// serial line does. The zero value has no unit.
type Device struct {
	// RTU frames instead of MBAP.
	RTU bool
	// Script, if set, may change what is sent for a request: it gets the frame of the
	// answer and returns what to send, piece by piece.
	// A piece of nil is a millisecond of time.
	Script func(unit byte, r pdu.Request, answer []byte) [][]byte

	serving sync.WaitGroup

	mu    sync.Mutex // guards the following fields
	units map[byte]*unit
	conns []net.Conn
	hole  bool // nothing gets through
	down  bool // connections are refused
	dials int
	log   []Seen
}

// Seen is a request that came.
type Seen struct {
	At      time.Time
	Unit    byte
	Request pdu.Request
}

type unit struct {
	*Memory
	delay  time.Duration
	silent bool
}

// ErrRefused is what Dial returns while the device is down.
var ErrRefused = errors.New("connection refused")

// Dial connects to the device in memory.
func (d *Device) Dial(ctx context.Context) (net.Conn, error) {
	d.mu.Lock()
	d.dials++
	hole, down := d.hole, d.down
	d.mu.Unlock()
	if hole {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if down {
		return nil, ErrRefused
	}
	near, far := net.Pipe()
	d.mu.Lock()
	d.conns = append(d.conns, far)
	d.mu.Unlock()
	d.serving.Go(func() { d.serve(far) })
	return near, nil
}

// Do changes the device while it runs.
func (d *Device) Do(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// Unit returns what unit id holds, and adds it if it is new. Use it in Do.
func (d *Device) Unit(id byte) *Memory { return d.unit(id).Memory }

func (d *Device) unit(id byte) *unit {
	if d.units == nil {
		d.units = map[byte]*unit{}
	}
	if d.units[id] == nil {
		d.units[id] = &unit{Memory: newMemory()}
	}
	return d.units[id]
}

// Set writes holding registers from address on.
func (d *Device) Set(id byte, address int, values ...uint16) {
	d.Do(func() {
		for i, v := range values {
			d.Unit(id).holding[address+i] = v
		}
	})
}

// SetCoil switches a coil.
func (d *Device) SetCoil(id byte, address int, on bool) {
	d.Do(func() { d.Unit(id).coils[address] = on })
}

// Get returns a holding register.
func (d *Device) Get(id byte, address int) (v uint16) {
	d.Do(func() { v = d.Unit(id).holding[address] })
	return v
}

// Hole makes a function refuse the addresses from..to-1 of a unit.
func (d *Device) Hole(id byte, fn pdu.Function, from, to int) {
	d.Do(func() { d.Unit(id).holes = append(d.Unit(id).holes, hole{fn, from, to}) })
}

// Lack makes a unit not know a function.
func (d *Device) Lack(id byte, fn pdu.Function) { d.Do(func() { d.Unit(id).lacks[fn] = true }) }

// Limit makes a unit refuse requests for more registers.
func (d *Device) Limit(id byte, registers int) { d.Do(func() { d.Unit(id).limit = registers }) }

// Delay makes a unit slow.
func (d *Device) Delay(id byte, by time.Duration) { d.Do(func() { d.unit(id).delay = by }) }

// Silence makes a unit not answer, or answer again.
func (d *Device) Silence(id byte, silent bool) { d.Do(func() { d.unit(id).silent = silent }) }

// BlackHole makes nothing get through, neither old nor new connections, or all.
func (d *Device) BlackHole(on bool) { d.Do(func() { d.hole = on }) }

// Down cuts all connections and refuses new ones, or accepts them again.
func (d *Device) Down(on bool) {
	d.Do(func() { d.down = on })
	if on {
		d.Cut()
	}
}

// Cut closes all connections.
func (d *Device) Cut() {
	d.mu.Lock()
	conns := d.conns
	d.conns = nil
	d.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // of a pipe
	}
}

// Close cuts all connections and waits until the device has stopped.
func (d *Device) Close() {
	d.Cut()
	d.serving.Wait()
}

// Dials returns how often the device was dialled.
func (d *Device) Dials() (n int) {
	d.Do(func() { n = d.dials })
	return n
}

// Seen returns the requests that came, those of unit id only unless it is 0.
func (d *Device) Seen(id byte) (seen []Seen) {
	d.Do(func() {
		for _, s := range d.log {
			if id == 0 || s.Unit == id {
				seen = append(seen, s)
			}
		}
	})
	return seen
}

// request is one that waits for its turn.
type request struct {
	tag  uint16
	unit byte
	body pdu.Request
}

// serve reads requests without a pause, as a socket's buffer does, and answers them
// one by one.
func (d *Device) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }() // of a pipe
	requests := make(chan request, 256)
	defer close(requests)
	d.serving.Go(func() { d.work(conn, requests) })
	var r frame.MBAPReader
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if d.RTU {
			if req, ok := parseRTU(buf[:n]); ok {
				requests <- req
			}
			continue
		}
		r.Feed(buf[:n])
		for {
			h, body, ok, err := r.Next()
			if err != nil {
				return
			}
			if !ok {
				break
			}
			requests <- request{tag: h.Transaction, unit: h.Unit, body: bytes.Clone(body)}
		}
	}
}

// parseRTU takes b for one frame: pipes keep the borders of what is written.
func parseRTU(b []byte) (request, bool) {
	if len(b) < 4 || !bytes.Equal(frame.AppendRTU(nil, b[0], b[1:len(b)-2]), b) {
		return request{}, false
	}
	return request{unit: b[0], body: bytes.Clone(b[1 : len(b)-2])}, true
}

func (d *Device) work(conn io.Writer, requests <-chan request) {
	for req := range requests {
		r, err := pdu.ParseRequest(req.body)
		if err != nil {
			continue
		}
		delay, silent := d.note(req, r)
		if silent {
			continue
		}
		time.Sleep(delay) //nolint:forbidigo // this is a slow device, in virtual time
		d.mu.Lock()
		body := slices.Clone(d.units[req.unit].answer(r))
		script, hole := d.Script, d.hole
		d.mu.Unlock()
		out := frame.MBAP{Transaction: req.tag, Unit: req.unit}.Append(nil, body)
		if d.RTU {
			out = frame.AppendRTU(nil, req.unit, body)
		}
		pieces := [][]byte{out}
		if script != nil {
			pieces = script(req.unit, r, out)
		}
		for _, p := range pieces {
			if hole {
				break
			}
			if p == nil {
				time.Sleep(time.Millisecond) //nolint:forbidigo // in virtual time
				continue
			}
			if _, err := conn.Write(p); err != nil {
				return
			}
		}
	}
}

// note records a request and tells how its unit answers.
func (d *Device) note(req request, r pdu.Request) (delay time.Duration, silent bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hole {
		return 0, true
	}
	d.log = append(d.log, Seen{time.Now(), req.unit, r})
	u := d.units[req.unit]
	if u == nil {
		return 0, true
	}
	return u.delay, u.silent
}

// Tag returns the transaction id of an MBAP frame.
func Tag(f []byte) uint16 { return binary.BigEndian.Uint16(f) }
