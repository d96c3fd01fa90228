package link

import (
	"errors"
	"io"

	"github.com/quic-go/quic-go"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// quicLane is a unidirectional stream.
type quicLane struct{ q *quic.SendStream }

var _ Lane = (*quicLane)(nil)

// Write implements Lane.
func (l *quicLane) Write(frames []byte) (int, error) {
	n, err := l.q.Write(frames)
	return n, laneError(err)
}

// Close implements Lane.
func (l *quicLane) Close() error { return laneError(l.q.Close()) }

// Cancel implements Lane.
func (l *quicLane) Cancel(code wire.Code) { l.q.CancelWrite(quic.StreamErrorCode(code)) }

// quicReader is the other end of a quicLane. It returns io.EOF after the peer's
// Close, and errCanceled after its Cancel.
type quicReader struct{ q *quic.ReceiveStream }

// Read implements io.Reader.
func (r quicReader) Read(p []byte) (int, error) {
	n, err := r.q.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // quic-go returns io.EOF itself, as io.Reader asks
		err = laneError(err)
	}
	return n, err
}

// laneError maps what quic-go's streams return.
func laneError(err error) error {
	switch _, canceled := errors.AsType[*quic.StreamError](err); {
	case err == nil:
		return nil
	case canceled:
		return ErrCanceled
	default:
		return connError(err)
	}
}
