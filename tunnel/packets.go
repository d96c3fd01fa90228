package tunnel

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/pace"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// featurePackets is said in Hello by an edge that takes packets, and in Welcome by a
	// cloud that does.
	featurePackets = "packets-1"
	// nearRTT is below what round trip lanes do: a lost packet is known at once then, and
	// quic-go hands the kernel many packets at a time.
	nearRTT = 5 * time.Millisecond
	// silentAfter is after how many timeouts in a row packets are not used any more, until
	// a probe comes through again; firstProbe and lastProbe are the waits for one.
	silentAfter            = 3
	firstProbe, lastProbe  = 500 * time.Millisecond, 30 * time.Minute
	largeProbes            = 3
	dataHeader, mostQueued = 32, 256
	// firstTimer keeps timers from firing for each packet of a fast path.
	firstTimer = time.Millisecond
)

// parcel is what of a stream is in a packet.
type parcel struct {
	st     *Stream // nil for a probe
	offset uint64
	n      int
	copied bool // it goes by a lane, too
	probe  int  // the packet's size
}

// packets carries the bulk of streams past the lanes of a carrier: each packet has
// frames of its own, and what is lost goes out again as a frame of a later packet, or
// by a lane.
//
// There is one goroutine for it only while it has something to do: the timer's.
type packets struct {
	s    *Session
	c    *carrier
	pipe *link.Packets

	src    bytes.Reader // of receive alone, as frames
	frames *wire.Reader
	buf    []byte // of tick alone, as box
	box    []byte

	usable atomic.Bool // packets come through, and are worth it

	mu      sync.Mutex // guards the following fields; taken after a stream's and the session's
	out     *pace.Sender[parcel]
	in      pace.Receiver
	size    int // of payloads
	proven  bool
	probes  int
	large   int // probes of the large size
	probeAt time.Time
	queue   []*Stream // that have something to send, in turn
	queued  map[*Stream]struct{}
	copies  []copyAt
	touched map[*Stream]struct{} // of which the peer hears with the next acknowledgement
	flowAt  time.Time            // when it must, without one
	lost    []parcel             // to be given back
	stopped bool
	ticking bool
	again   bool
	timer   *time.Timer
}

// openPackets begins to use packets on a carrier, where both sides can.
func (s *Session) openPackets(c *carrier) {
	if !slices.Contains(s.hello.Features, featurePackets) || !slices.Contains(s.welcome.Features, featurePackets) {
		return
	}
	if c.conn.Handshake(c.ctx) != nil {
		return
	}
	p := &packets{
		s: s, c: c, out: pace.NewSender[parcel](link.SmallPacket, float64(s.throttle.rate), c.conn.Stats().RTT), size: link.SmallPacket - link.PacketOverhead,
		queued: make(map[*Stream]struct{}), touched: make(map[*Stream]struct{}),
		buf: make([]byte, 0, link.LargePacket), box: make([]byte, 0, link.LargePacket),
	}
	p.frames = wire.NewReader(&p.src, link.LargePacket)
	p.mu.Lock()
	p.timer = time.AfterFunc(0, p.tick)
	var err error
	p.pipe, err = link.OpenPackets(c.ctx, c.conn, p.receive)
	p.mu.Unlock()
	if err != nil {
		p.stop()
		if !errors.Is(err, errors.ErrUnsupported) {
			s.log.Debug("no packets", "err", err)
		}
		return
	}
	c.packets.Store(p)
	if closed(c.gone) {
		p.stop()
	}
}

// stop ends it; tick may be at its last step.
func (p *packets) stop() {
	p.usable.Store(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.timer.Stop()
	if p.pipe != nil {
		p.pipe.Close()
	}
	p.queue, p.copies, p.touched = nil, nil, make(map[*Stream]struct{})
}

// wake has tick look again.
func (p *packets) wakeLocked() {
	if !p.stopped {
		p.again = true
		p.timer.Reset(0)
	}
}

// enqueue has the stream's bytes sent. The caller holds the stream's mutex.
func (p *packets) enqueue(st *Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, there := p.queued[st]; there || p.stopped {
		return
	}
	p.queued[st] = struct{}{}
	p.queue = append(p.queue, st)
	if len(p.queue) == 1 {
		p.wakeLocked()
	}
}

// tick does what is due, and comes back when more is.
func (p *packets) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ticking || p.pipe == nil {
		p.again = true
		return
	}
	p.ticking = true
	for p.again = true; p.again && !p.stopped; {
		p.again = false
		for !p.stopped && p.stepLocked(time.Now()) {
		}
	}
	p.ticking = false
	if next := p.nextLocked(time.Now()); !p.stopped && !next.IsZero() {
		p.timer.Reset(max(time.Until(next), 0))
	}
}

// nextLocked is when something is due; zero means never.
func (p *packets) nextLocked(now time.Time) (next time.Time) {
	earlier := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	earlier(p.in.Due(p.out.RTT()))
	earlier(p.out.Deadline())
	earlier(p.flowAt)
	earlier(p.probeAt)
	if len(p.copies) > 0 {
		earlier(p.copies[0].at)
	}
	if p.proven && len(p.queue) > 0 {
		if d, ok := p.out.Wait(now); ok {
			earlier(now.Add(max(d, firstTimer)))
		}
	}
	return next
}

// past reports that a time has come; zero never does.
func past(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// stepLocked does one thing that is due, and reports whether there was one.
func (p *packets) stepLocked(now time.Time) bool {
	p.out.Expire(now, p.loseLocked)
	if p.proven && p.out.Timeouts() >= silentAfter {
		p.silentLocked(now)
	}
	if len(p.lost) > 0 {
		p.giveBack()
		return true
	}
	switch {
	case past(p.in.Due(p.out.RTT()), now), past(p.flowAt, now):
		p.acknowledge(now)
		return true
	case len(p.copies) > 0 && past(p.copies[0].at, now):
		p.sendCopy(now)
		return true
	case past(p.probeAt, now), !p.proven && p.probes == 0:
		p.probe(now)
		return true
	case p.proven && len(p.queue) > 0:
		if d, ok := p.out.Wait(now); ok && d == 0 {
			p.sendBulk(now)
			return true
		}
	}
	return false
}

func (p *packets) loseLocked(l parcel) {
	if l.st != nil {
		p.lost = append(p.lost, l)
	}
}

// silentLocked gives packets up until a probe comes through.
func (p *packets) silentLocked(now time.Time) {
	p.proven = false
	p.usable.Store(false)
	p.out.Abandon(p.loseLocked)
	p.probes, p.probeAt = 1, now.Add(firstProbe)
	p.size = link.SmallPacket - link.PacketOverhead
	p.out.SetSize(link.SmallPacket)
	for _, st := range p.queue {
		p.lost = append(p.lost, parcel{st: st})
	}
	p.queue, p.copies = nil, nil
	clear(p.queued)
}

// giveBack returns what was lost to its streams. It lets go of the mutex.
func (p *packets) giveBack() {
	lost := p.lost
	p.lost = nil
	p.mu.Unlock()
	for _, l := range lost {
		l.st.lost(p, l)
	}
	p.mu.Lock()
}

// send sends one packet with frames that ask for an acknowledgement, or with what
// asks for none. It lets go of the mutex.
func (p *packets) send(now time.Time, frames []byte, l parcel, asks bool) {
	n := p.out.Next()
	if asks {
		p.out.Sent(now, len(frames)+link.PacketOverhead, l, l.probe > 0)
	} else {
		p.out.Passed()
	}
	p.mu.Unlock()
	_ = p.pipe.Send(p.box, n, frames) // what does not leave is lost
	if asks {
		p.s.wrote()
		p.s.moved()
	}
	p.mu.Lock()
}

// sendBulk sends a packet of the stream whose turn it is.
func (p *packets) sendBulk(now time.Time) {
	st := p.queue[0]
	p.queue = p.queue[1:]
	delete(p.queued, st)
	size := p.size
	p.mu.Unlock()
	b, l, more := st.packet(p.buf[:0], size-dataHeader, p.c)
	p.mu.Lock()
	if p.stopped {
		return
	}
	if _, there := p.queued[st]; more && !there {
		p.queued[st] = struct{}{}
		p.queue = append(p.queue, st)
	}
	if len(p.queue) == 0 {
		p.out.Limited()
	}
	if len(b) > 0 {
		p.send(now, b, l, true)
	}
}

// probe asks whether packets come through, and of what size.
func (p *packets) probe(now time.Time) {
	size := link.SmallPacket
	switch {
	case !p.proven:
		p.probeAt = now.Add(min(firstProbe<<min(p.probes, 12), lastProbe))
		p.probes++
	case p.large < largeProbes:
		p.large++
		size = link.LargePacket
		p.probeAt = now.Add(firstProbe)
	default:
		p.probeAt = time.Time{}
		return
	}
	const header = 3
	b := wire.Append(p.buf[:0], &wire.PacketProbe{Padding: make([]byte, size-link.PacketOverhead-header)})
	p.send(now, b, parcel{probe: size}, true)
}

// acknowledge says what has come, and how far streams are of which something came.
func (p *packets) acknowledge(now time.Time) {
	const most = 16 // streams
	ranges, delay := p.in.Ack(now)
	f := wire.PacketAck{Microseconds: uint64(delay.Microseconds())}
	for _, r := range ranges {
		f.Ranges = append(f.Ranges, wire.PacketRange(r))
	}
	b := p.buf[:0]
	if len(f.Ranges) > 0 {
		b = wire.Append(b, &f)
	}
	var streams []*Stream
	for st := range p.touched {
		if len(streams) < most {
			streams = append(streams, st)
			delete(p.touched, st)
		}
	}
	p.flowAt = time.Time{}
	if len(p.touched) > 0 {
		p.flowAt = now
	}
	p.mu.Unlock()
	for _, st := range streams {
		if a := st.position(); !a.Done {
			b = wire.Append(b, &a)
		}
	}
	p.mu.Lock()
	if len(b) > 0 && !p.stopped {
		p.send(now, b, parcel{}, false)
	}
}

// flow has the peer hear of a stream soon. The caller holds the stream's mutex.
func (p *packets) flow(st *Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	p.touched[st] = struct{}{}
	if p.flowAt.IsZero() {
		p.flowAt = time.Now().Add(firstTimer)
		p.wakeLocked()
	}
}

// knows reports whether a stream is there, or has been.
func (s *Session) knows(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams.seen(id)
}
