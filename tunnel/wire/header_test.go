package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestHeader(t *testing.T) {
	for _, want := range []Header{{}, {typeGoodbye, 5}, {9999, 1 << 40}} {
		b := want.Append(nil)
		if got, err := ReadHeader(bytes.NewReader(b)); got != want || err != nil {
			t.Errorf("%v came back as %v, %v", want, got, err)
		}
		for n := range b {
			wantErr := io.ErrUnexpectedEOF
			if n == 0 {
				wantErr = io.EOF
			}
			if _, err := ReadHeader(bytes.NewReader(b[:n])); !errors.Is(err, wantErr) {
				t.Errorf("%v cut to %d of %d bytes: %v, want %v", want, n, len(b), err, wantErr)
			}
		}
	}
}
