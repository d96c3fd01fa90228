package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

const (
	// inFlight bounds the packets on the way in one direction: 0.8 s of full
	// packets at 1 Gbit/s.
	inFlight = 1 << 16
	// patience bounds how long a thread sits in the kernel before it looks
	// whether it should end.
	patience = 100 * time.Millisecond
)

// link joins two devices by two directions.
type link struct {
	ab, ba *direction

	mu  sync.Mutex // guards the following field
	nat nat
}

// packet is on its way until at.
type packet struct {
	b  []byte
	at time.Time
}

// direction carries packets from one device to the other.
type direction struct {
	name      string
	from, to  *tun
	translate func(b []byte) bool // false drops the packet
	inOrder   chan packet
	late      chan packet // a queue of its own, so that the line overtakes it

	mu    sync.Mutex // guards the following fields
	line  *line
	count counters
}

// counters tell what became of the packets of a direction.
type counters struct {
	in, out, lost, queue, cut, natted int64
	inBytes, outBytes                 int64
}

func newLink(a, b *tun, s settings, seed uint64) *link {
	l := &link{}
	l.ab = newDirection("a->b", a, b, newLine(s, seed))
	l.ba = newDirection("b->a", b, a, newLine(s, seed+1))
	l.ab.translate = func(b []byte) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.nat.inbound(b)
	}
	l.ba.translate = func(b []byte) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.nat.outbound(b)
		return true
	}
	return l
}

func newDirection(name string, from, to *tun, ln *line) *direction {
	return &direction{
		name: name, from: from, to: to, line: ln,
		inOrder: make(chan packet, inFlight), late: make(chan packet, inFlight),
	}
}

// run moves packets until ctx ends or a device is gone.
func (l *link) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i, d := range []*direction{l.ab, l.ba} {
		wg.Go(func() {
			errs[i] = d.read(ctx)
			cancel()
		})
		wg.Go(func() { d.write(ctx, d.inOrder) })
		wg.Go(func() { d.write(ctx, d.late) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (l *link) rebind(offset uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nat.rebind(offset)
}

// read takes packets from the device and puts those that survive in the queue.
func (d *direction) read(ctx context.Context) error {
	runtime.LockOSThread() // a thread of its own: timing does not wait for the scheduler
	buf := make([]byte, 1<<16)
	for ctx.Err() == nil {
		n, err := d.from.read(buf, patience)
		if err != nil {
			return err
		}
		if isIP(buf[:n]) {
			d.enter(append([]byte(nil), buf[:n]...), time.Now())
		}
	}
	return nil
}

// enter decides about a packet and queues it.
func (d *direction) enter(b []byte, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count.in++
	d.count.inBytes += int64(len(b))
	at, v := d.line.admit(now, len(b), isUDP(b))
	queue := d.inOrder
	switch v {
	case dropCut:
		d.count.cut++
		return
	case dropQueue:
		d.count.queue++
		return
	case dropLoss:
		d.count.lost++
		return
	case deliverLate:
		queue = d.late
	case deliver:
	}
	if !d.translate(b) {
		d.count.natted++
		return
	}
	select {
	case queue <- packet{b, at}:
	default:
		d.count.queue++
	}
}

// write delivers the packets of one queue, each at its time.
func (d *direction) write(ctx context.Context, queue <-chan packet) {
	runtime.LockOSThread()
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-queue:
			for w := time.Until(p.at); w > 5*time.Microsecond && ctx.Err() == nil; w = time.Until(p.at) {
				nanosleep(min(w, patience))
			}
			d.leave(p.b)
		}
	}
}

// leave hands a packet to the far device, unless the link was cut meanwhile.
func (d *direction) leave(b []byte) {
	d.mu.Lock()
	cut := d.line.outage
	d.mu.Unlock()
	ok := !cut && d.to.write(b)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !ok {
		d.count.cut++
		return
	}
	d.count.out++
	d.count.outBytes += int64(len(b))
}

// set replaces the settings; packets on their way keep their times.
func (d *direction) set(s settings) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.line.settings = s
}

func (d *direction) settings() settings {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.line.settings
}

func (d *direction) stats() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.count
	return fmt.Sprintf("%s in=%d out=%d lost=%d queue_dropped=%d cut=%d nat_dropped=%d in_bytes=%d out_bytes=%d",
		d.name, c.in, c.out, c.lost, c.queue, c.cut, c.natted, c.inBytes, c.outBytes)
}
