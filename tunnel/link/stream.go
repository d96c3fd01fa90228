package link

import (
	"io"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// Stream is both directions of one stream, each of which ends by itself.
type Stream struct{ q *quic.Stream }

// Read returns io.EOF after the peer's CloseWrite and a *ResetError after its CancelWrite.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.q.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // quic-go returns io.EOF itself, as io.Reader asks
		err = streamError(err)
	}
	return n, err
}

// Write returns a *ResetError after the peer's CancelRead.
func (s *Stream) Write(p []byte) (int, error) {
	n, err := s.q.Write(p)
	if err != nil {
		err = streamError(err)
	}
	return n, err
}

// CloseWrite ends the sending direction after what was written. It must not run
// beside Write, nor after CancelWrite.
func (s *Stream) CloseWrite() error { return s.q.Close() }

// CancelWrite drops what was not delivered yet; the peer's Read fails with code.
func (s *Stream) CancelWrite(code wire.Code) { s.q.CancelWrite(quic.StreamErrorCode(code)) }

// CancelRead drops what was not read yet; the peer's Write fails with code.
func (s *Stream) CancelRead(code wire.Code) { s.q.CancelRead(quic.StreamErrorCode(code)) }

// SetUrgency orders streams that have data to send: 0 goes first, 7 last,
// streams of the same urgency take turns.
func (s *Stream) SetUrgency(urgency int8) { s.q.SetPriority(urgency, true) }

// SetReadDeadline is net.Conn's.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.q.SetReadDeadline(t) }

// SetWriteDeadline is net.Conn's.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.q.SetWriteDeadline(t) }
