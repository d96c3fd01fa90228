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
	maxFrame = 4 << 20
	// Bounds of what is sent and not yet acknowledged.
	maxUnacked      = 128
	maxUnackedBytes = 512 << 10
)

var errAck = errors.New("acknowledgement of a report that was not sent")

// sender works on one stream.
type sender struct {
	r    *Reporter
	bell chan struct{} // capacity 1: an acknowledgement came

	mu      sync.Mutex // guards the following fields
	unacked map[uint64]int
	bytes   int
}

func (r *Reporter) serve(ctx context.Context, conn net.Conn) error {
	r.update(func(s *Stats) { s.Streams++ })
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	// The cloud may have marked this node offline meanwhile.
	r.node.resend()
	s := &sender{r: r, bell: make(chan struct{}, 1), unacked: make(map[uint64]int)}
	var wg sync.WaitGroup
	wg.Go(func() { cancel(s.readAcks(conn)) })
	cancel(s.send(ctx, conn))
	_ = conn.Close()
	wg.Wait()
	r.update(func(s *Stats) { s.Unacked = 0 })
	return context.Cause(ctx)
}

// send sends the outbox in order, from its beginning, and then what comes.
func (s *sender) send(ctx context.Context, conn io.Writer) error {
	w := bufio.NewWriter(conn)
	after := uint64(0)
	for {
		var m store.Message
		ok := false
		if !s.full() {
			var err error
			if m, ok, err = s.r.outbox.Next(after); err != nil {
				return err
			}
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
		after = m.Seq
		size := len(m.Key) + len(m.Value)
		if size > maxFrame-64 {
			s.r.log.Error("report is too large for the stream and is dropped", "key", m.Key, "bytes", size)
			if err := s.r.outbox.Trim(m.Seq); err != nil {
				return err
			}
			continue
		}
		s.sent(m.Seq, size)
		f := &wire.Report{Seq: m.Seq, Subject: wire.Subject(m.Subject), Key: m.Key, Value: m.Value}
		if err := wire.Write(w, f); err != nil {
			return err
		}
	}
}

func (s *sender) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unacked) >= maxUnacked || s.bytes >= maxUnackedBytes
}

func (s *sender) sent(seq uint64, size int) {
	s.mu.Lock()
	s.unacked[seq] = size
	s.bytes += size
	n := len(s.unacked)
	s.mu.Unlock()
	s.r.update(func(st *Stats) { st.Sent++; st.Unacked = n })
}

// readAcks deletes what the cloud has written until the stream ends.
func (s *sender) readAcks(conn io.Reader) error {
	frames := wire.NewReader(bufio.NewReader(conn), maxFrame)
	for {
		f, err := frames.Next()
		if err != nil {
			return err
		}
		ack, ok := f.(*wire.ReportAck)
		if !ok {
			continue
		}
		s.mu.Lock()
		size, ok := s.unacked[ack.Seq]
		delete(s.unacked, ack.Seq)
		s.bytes -= size
		n := len(s.unacked)
		s.mu.Unlock()
		if !ok {
			return fmt.Errorf("seq %d: %w", ack.Seq, errAck)
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
