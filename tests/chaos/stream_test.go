package chaos_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// How a stream ends.
const (
	endFin   = "fin"   // both directions run to their ends
	endReset = "reset" // one side resets it in the middle, with a code
	endClose = "close" // one side closes it and still gets its own bytes through
)

// endless is more than any stream carries: such a flow ends when the peer says so.
const endless = 1 << 40

// spec is all that is to be known of a stream. Its opener says it first of all,
// so that both sides know what must come.
type spec struct {
	ID      uint64    `json:"id"`
	Session uint64    `json:"session"` // the session's Hello.Seq
	Shape   string    `json:"shape"`
	Kind    wire.Kind `json:"kind"`
	Up      flow      `json:"up"`   // from the opener
	Down    flow      `json:"down"` // to the opener
	// Ask holds Down back until Up is at its end.
	Ask bool `json:"ask,omitempty"`
	// End says how the stream ends. But for endFin one side, the ender, ends it
	// after it has read EndAfter bytes.
	End         string    `json:"end"`
	EndByOpener bool      `json:"endByOpener,omitempty"`
	EndAfter    int64     `json:"endAfter,omitempty"`
	Code        wire.Code `json:"code,omitempty"`
}

// flow is one direction of a stream.
type flow struct {
	Bytes     int64         `json:"bytes"`
	Piece     int           `json:"piece"`               // bytes in a Write
	Pause     time.Duration `json:"pause,omitempty"`     // after each Write
	ReadPause time.Duration `json:"readPause,omitempty"` // after each Read
}

// conn is what the model needs of a *tunnel.Stream.
type conn interface {
	net.Conn
	CloseWrite() error
	Reset(code wire.Code)
}

// report is what one side of a stream saw.
type report struct {
	ID      uint64 `json:"id"`
	Session uint64 `json:"session"`
	Shape   string `json:"shape"`
	Opener  bool   `json:"opener"`
	// Wrong says what was not as the spec says; empty is well.
	Wrong string `json:"wrong,omitempty"`
	// Lost says that the session ended under the stream, and how.
	Lost           string    `json:"lost,omitempty"`
	Sent, Received int64     // bytes
	At             time.Time `json:"at"` // its end
}

// side is one side of a stream.
type side struct {
	spec
	conn   conn
	opener bool
	hurry  <-chan struct{} // when closed, pauses are left out
	meter  *meter          // told of each arrival; may be nil

	over           chan struct{} // closed when there is nobody left to write to
	sent, received int64
	writeErr       error
}

// run does this side's part, to the end.
func (s *side) run() report {
	r := report{ID: s.ID, Session: s.Session, Shape: s.Shape, Opener: s.opener}
	err := s.play()
	if session := (*tunnel.SessionError)(nil); errors.As(err, &session) {
		r.Lost = session.Error()
		err = nil
	}
	if err != nil {
		r.Wrong = err.Error()
		s.conn.Reset(wire.CodeInternal) // the other side must not wait for ever
	}
	r.Sent, r.Received, r.At = s.sent, s.received, time.Now()
	return r
}

func (s *side) play() error {
	if s.opener {
		header, err := json.Marshal(s.spec)
		if err != nil {
			return err
		}
		if _, err := s.conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(header))), header...)); err != nil {
			return fmt.Errorf("write the header: %w", err)
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	s.over = make(chan struct{})
	over := sync.OnceFunc(func() { close(s.over) })
	defer over()
	late := s.Ask && !s.opener
	if !late {
		wg.Go(func() { s.writeErr = s.write() })
	}
	readErr := s.read(&wg)
	if readErr != nil {
		s.conn.Reset(wire.CodeInternal) // ends the writer; after the stream's end it does nothing
		over()
		wg.Wait()
		return readErr
	}
	if late {
		s.writeErr = s.write()
	}
	wg.Wait()
	if err := s.judgeWrite(); err != nil {
		return err
	}
	if err := s.conn.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// ender reports whether this side ends the stream.
func (s *side) ender() bool { return s.End != endFin && s.EndByOpener == s.opener }

// flows gives what this side sends, and what it receives.
func (s *side) flows() (out, in flow) {
	if s.opener {
		return s.Up, s.Down
	}
	return s.Down, s.Up
}

// write sends this side's flow.
func (s *side) write() error {
	out, _ := s.flows()
	buf := make([]byte, out.Piece)
	for s.sent < out.Bytes {
		piece := buf[:min(int64(len(buf)), out.Bytes-s.sent)]
		content(piece, s.ID, s.opener, s.sent)
		n, err := s.conn.Write(piece)
		s.sent += int64(n)
		if err != nil {
			return fmt.Errorf("write at %d: %w", s.sent, err)
		}
		hurry := s.hurry
		if out.Bytes == endless {
			hurry = nil // it waits for the peer, hurried or not
		}
		pause(out.Pause, hurry, s.over)
	}
	// Close alone must do for the last side of a question and for who closes early.
	if s.End == endFin && (!s.Ask || s.opener) {
		if err := s.conn.CloseWrite(); err != nil {
			return fmt.Errorf("close the direction: %w", err)
		}
	}
	return nil
}

// read receives the peer's flow and checks each byte. An ender ends the stream
// on the way.
func (s *side) read(writer *sync.WaitGroup) error {
	_, in := s.flows()
	buf, want := make([]byte, 8<<10), make([]byte, 8<<10)
	for {
		if s.ender() && s.received >= s.EndAfter {
			if s.End == endReset {
				s.conn.Reset(s.Code)
			} else {
				writer.Wait() // what it wrote must still arrive, the end of it too
			}
			return nil
		}
		n, err := s.conn.Read(buf)
		if n > 0 {
			s.meter.arrived(time.Now())
			content(want[:n], s.ID, !s.opener, s.received)
			if at := differ(buf[:n], want[:n]); at >= 0 {
				return &corruptError{at: s.received + int64(at), got: buf[at:min(at+16, n)], want: want[at:min(at+16, n)]}
			}
			s.received += int64(n)
			if s.received > in.Bytes {
				return &corruptError{at: in.Bytes, got: buf[:min(16, n)]}
			}
		}
		if err != nil {
			return s.judgeRead(err, in)
		}
		pause(in.ReadPause, s.hurry, nil)
	}
}

// judgeRead gives nil for the end that the spec wants.
func (s *side) judgeRead(err error, in flow) error {
	if s.End == endReset {
		return s.wantReset(err, s.Code)
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("read at %d of %d: %w", s.received, in.Bytes, err)
	}
	if s.received != in.Bytes {
		return &corruptError{at: s.received, want: []byte(fmt.Sprintf("%d bytes", in.Bytes))}
	}
	return nil
}

// judgeWrite gives nil for the end that the spec wants.
func (s *side) judgeWrite() error {
	switch {
	case s.End == endReset && s.ender():
		return nil // cut off, or done before
	case s.End == endReset && s.writeErr != nil:
		return s.wantReset(s.writeErr, s.Code)
	case s.End == endClose && !s.ender():
		return s.wantReset(s.writeErr, wire.CodeCanceled)
	}
	return s.writeErr
}

// wantReset gives nil when err is the peer's reset with this code.
func (s *side) wantReset(err error, code wire.Code) error {
	reset := (*tunnel.StreamError)(nil)
	if errors.As(err, &reset) && reset.Remote && reset.Code == code {
		return nil
	}
	return fmt.Errorf("want a reset with code %d, got %w", code, orNil(err))
}

func orNil(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// corruptError says that bytes are not those that were sent.
type corruptError struct {
	at        int64
	got, want []byte
}

func (e *corruptError) Error() string {
	return fmt.Sprintf("from byte %d on: got %x, want %x", e.at, e.got, e.want)
}

// readSpec reads what the opener says first.
func readSpec(r io.Reader) (spec, error) {
	var (
		size [2]byte
		s    spec
	)
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return s, fmt.Errorf("read the header: %w", err)
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return s, fmt.Errorf("read the header: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("read the header: %w", err)
	}
	return s, nil
}

// content gives the bytes of a stream's direction from a place on. Each word
// depends on stream, direction and place, so a byte out of place is a wrong one.
func content(p []byte, id uint64, up bool, at int64) {
	seed := id * 2
	if up {
		seed++
	}
	for len(p) > 0 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], mix(seed*0x9e3779b97f4a7c15^uint64(at/8)))
		n := copy(p, word[at%8:])
		p, at = p[n:], at+int64(n)
	}
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// differ is the first place where two slices of one length differ, or -1.
func differ(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// pause waits, unless there is hurry or no reason any more.
func pause(d time.Duration, hurry, over <-chan struct{}) {
	if d == 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-hurry:
	case <-over:
	}
}

// meter reports the times in which nothing came on a stream on which something
// should come all the time.
type meter struct {
	gap  func(from, to time.Time)
	last time.Time
}

// noticeable is the shortest gap that is reported.
const noticeable = 250 * time.Millisecond

// begin says that something should come from now on. After a stream that was
// lost, the gap goes on.
func (m *meter) begin(now time.Time, again bool) {
	if !again || m.last.IsZero() {
		m.last = now
	}
}

func (m *meter) arrived(now time.Time) {
	if m == nil {
		return
	}
	if now.Sub(m.last) >= noticeable {
		m.gap(m.last, now)
	}
	m.last = now
}
