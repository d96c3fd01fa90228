package report

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// maxFrame is the bound of PROTOCOL.md for frames on this stream.
	maxFrame = 128 << 10
	// maxReport is the key and the value of one.
	maxReport = maxFrame - 64
	// Bounds of what is sent and not yet acknowledged.
	maxUnacked      = 128
	maxUnackedBytes = 512 << 10
	// maxUnackedEvents are the most events among them, and the next are the most static
	// pods and requests for certificates: the cluster may refuse events and requests for
	// hours, by a quota say, and static pods for good, by admission. Statuses must find
	// room beside all of these.
	maxUnackedEvents       = 56
	maxUnackedSamples      = 16
	maxUnackedStatic       = 32
	maxUnackedCertificates = 8
	// maxUnackedStaticBytes is when no more static pods follow. The last one may exceed
	// it by all that a report may have; that leaves half of maxUnackedBytes.
	maxUnackedStaticBytes = 128 << 10
	// maxUnackedSampleBytes is when no more samples of devices follow, in the same way.
	maxUnackedSampleBytes = 128 << 10
)

var errAck = errors.New("acknowledgement of a report that was not sent")

// sender works on one stream.
type sender struct {
	r    *Reporter
	bell chan struct{} // capacity 1: an acknowledgement came

	// How far each kind has been sent. All but events and samples are in the keyed lane, and wait for
	// room of their own.
	places [kinds]uint64

	mu      sync.Mutex // guards the following fields
	unacked map[uint64]flight
	count   [kinds]int // of unacked
	bytes   [kinds]int
}

// kind is what has a bound of its own.
type kind int

const (
	statusKind kind = iota
	staticKind
	certificateKind
	eventKind // the first of the sequenced lane
	sampleKind
	kinds
)

func kindOf(m store.Message) kind {
	switch subject := wire.Subject(m.Subject); {
	case subject == wire.SubjectEvent:
		return eventKind
	case subject == wire.SubjectSamples:
		return sampleKind
	case subject == wire.SubjectStaticPod && len(m.Value) > 0: // that one is gone is refused by nobody
		return staticKind
	case subject == wire.SubjectCertificate:
		return certificateKind
	default:
		return statusKind
	}
}

// flight is a report that was sent and not acknowledged.
type flight struct {
	size int
	kind kind
}

func (r *Reporter) serve(ctx context.Context, conn net.Conn) error {
	r.update(func(s *Stats) { s.Streams++ })
	r.greetStatic()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	s := &sender{r: r, bell: make(chan struct{}, 1), unacked: make(map[uint64]flight)}
	var wg sync.WaitGroup
	wg.Go(func() { cancel(s.readAcks(conn)) })
	cancel(s.send(ctx, conn))
	_ = conn.Close()
	wg.Wait()
	r.update(func(s *Stats) { s.Unacked = 0 })
	return context.Cause(ctx)
}

// send sends the outbox from its beginning, and then what comes.
func (s *sender) send(ctx context.Context, conn io.Writer) error {
	w := bufio.NewWriter(conn)
	told := false
	for {
		m, ok, err := s.next()
		if err != nil {
			return err
		}
		if !ok {
			if err := w.Flush(); err != nil {
				return fmt.Errorf("flush reports: %w", err)
			}
			select {
			case <-s.r.outbox.Changed():
			case <-s.bell:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		size := len(m.Key) + len(m.Value)
		if size > maxReport {
			s.r.log.Error("report is too large for the stream and is dropped", "key", m.Key, "bytes", size)
			if err := s.r.outbox.Trim(m.Seq); err != nil {
				return err
			}
			continue
		}
		if !told { // an edge that has nothing to say says nothing
			if err := wire.Write(w, &wire.Outbox{ID: s.r.id}); err != nil {
				return err
			}
			told = true
		}
		s.sent(m.Seq, flight{size: size, kind: kindOf(m)})
		f := &wire.Report{Seq: m.Seq, Subject: wire.Subject(m.Subject), Key: m.Key, Value: m.Value}
		if err := wire.Write(w, f); err != nil {
			return err
		}
	}
}

// next gives what is to be sent now: what is, before what was. After an outage
// statuses do not wait behind all the events of it. Each lane goes in order.
func (s *sender) next() (store.Message, bool, error) {
	room := s.room()
	var first store.Message
	found := false
	for k := range eventKind {
		if !room[k] {
			continue
		}
		m, ok, err := s.nextOf(k, s.r.outbox.NextKeyed)
		if err != nil {
			return m, false, err
		}
		if ok && (!found || m.Seq < first.Seq) {
			first, found = m, true
		}
	}
	for k := eventKind; k < kinds && !found; k++ {
		if !room[k] {
			continue
		}
		var err error
		if first, found, err = s.nextOf(k, s.r.outbox.Next); err != nil {
			return first, false, err
		}
	}
	if found {
		s.places[kindOf(first)] = first.Seq
	}
	return first, found, nil
}

// nextOf gives the next message of one kind, and moves its place to before it.
func (s *sender) nextOf(k kind, next func(after uint64) (store.Message, bool, error)) (store.Message, bool, error) {
	for {
		m, ok, err := next(s.places[k])
		if err != nil || !ok || kindOf(m) == k {
			return m, ok, err
		}
		s.places[k] = m.Seq
	}
}

// room says of which kinds more may be sent before something is acknowledged.
func (s *sender) room() (room [kinds]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes := 0
	for _, n := range s.bytes {
		bytes += n
	}
	if len(s.unacked) >= maxUnacked || bytes >= maxUnackedBytes {
		return room
	}
	room[statusKind] = true
	room[staticKind] = s.count[staticKind] < maxUnackedStatic && s.bytes[staticKind] < maxUnackedStaticBytes
	room[certificateKind] = s.count[certificateKind] < maxUnackedCertificates
	room[eventKind] = s.count[eventKind] < maxUnackedEvents
	room[sampleKind] = s.count[sampleKind] < maxUnackedSamples && s.bytes[sampleKind] < maxUnackedSampleBytes
	return room
}

func (s *sender) sent(seq uint64, f flight) {
	s.mu.Lock()
	s.unacked[seq] = f
	s.bytes[f.kind] += f.size
	s.count[f.kind]++
	n := len(s.unacked)
	s.mu.Unlock()
	s.r.update(func(st *Stats) { st.Sent++; st.Unacked = n })
}

// acked takes a report off the flight; it returns how many are left.
func (s *sender) acked(seq uint64) (left int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.unacked[seq]
	if !ok {
		return 0, fmt.Errorf("seq %d: %w", seq, errAck)
	}
	delete(s.unacked, seq)
	s.bytes[f.kind] -= f.size
	s.count[f.kind]--
	return len(s.unacked), nil
}

// readAcks deletes what the cloud has written until the stream ends.
func (s *sender) readAcks(conn io.Reader) error {
	frames := wire.NewReader(bufio.NewReader(conn), maxFrame)
	for {
		f, err := frames.Next()
		if err != nil {
			return err
		}
		if again, ok := f.(*wire.Resend); ok {
			s.r.resendStatic(again.Key)
			continue
		}
		ack, ok := f.(*wire.ReportAck)
		if !ok {
			continue
		}
		if ack.Seq == 0 {
			// No report has this seq: the cloud wants the node's status once more.
			s.r.node.resend()
			continue
		}
		n, err := s.acked(ack.Seq)
		if err != nil {
			return err
		}
		if err := s.r.outbox.Trim(ack.Seq); err != nil {
			return err
		}
		s.r.update(func(st *Stats) { st.Acked++; st.Unacked = n })
		select {
		case s.bell <- struct{}{}:
		default:
		}
	}
}
