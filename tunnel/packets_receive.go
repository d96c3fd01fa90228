package tunnel

import (
	"errors"
	"io"
	"time"

	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/pace"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// receive takes in a packet of the peer.
func (p *packets) receive(number uint64, payload []byte) {
	if closed(p.c.gone) {
		return
	}
	p.src.Reset(payload)
	asks, taken := false, true
	var of *Stream
	for {
		f, err := p.frames.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			p.s.end(protocolError("packet: %s", err.Error()))
			return
		}
		var fault *SessionError
		switch f := f.(type) {
		case *wire.PacketAck:
			if !p.acked(f) {
				fault = protocolError("packets were acknowledged that were never sent")
			}
		case *wire.PacketProbe:
			asks = true
		case *wire.StreamData:
			asks = true
			if !p.s.knows(f.ID) { // its StreamOpen is still on its way
				taken = false
				continue
			}
			of = p.s.stream(f.ID)
			if of != nil && !of.received(f) {
				fault = protocolError("stream %d: data that it has no room for", f.ID)
			}
		case *wire.StreamAck:
			fault = p.s.handle(f)
		}
		if fault != nil {
			p.s.end(fault)
			return
		}
	}
	p.s.moved()
	p.s.locate(p.c)
	if asks && taken {
		p.got(number, of)
	}
}

// got has a packet acknowledged.
func (p *packets) got(number uint64, of *Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.in.Due(p.out.RTT())
	p.in.Got(time.Now(), number)
	if of != nil {
		p.touched[of] = struct{}{}
	}
	if due := p.in.Due(p.out.RTT()); before.IsZero() || due.Before(before) {
		p.wakeLocked()
	}
}

// acked takes in what has come to the peer.
func (p *packets) acked(f *wire.PacketAck) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ranges := make([]pace.Range, len(f.Ranges))
	for i, r := range f.Ranges {
		ranges[i] = pace.Range(r)
	}
	ok = p.out.Ack(time.Now(), ranges, time.Duration(min(f.Microseconds, 1e9))*time.Microsecond, p.arrivedLocked, p.loseLocked)
	p.usable.Store(p.proven && !p.stopped && p.out.RTT() >= nearRTT)
	if len(p.queue) > 0 || len(p.lost) > 0 {
		p.wakeLocked()
	}
	return ok
}

// arrivedLocked learns from probes.
func (p *packets) arrivedLocked(l parcel) {
	switch {
	case l.probe == link.LargePacket:
		p.size, p.probeAt = link.LargePacket-link.PacketOverhead, time.Time{}
		p.out.SetSize(link.LargePacket)
	case l.probe > 0 && !p.proven:
		p.proven, p.probes, p.large = true, 0, 0
		p.probeAt = time.Now()
		p.wakeLocked()
	}
}
