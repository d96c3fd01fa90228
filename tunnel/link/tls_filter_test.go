package link

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// filtered reads all that a filter passes on and all that it takes, with buffers
// of one size.
func filtered(r io.Reader, size int) (out []byte, own []wire.Frame, err error) {
	f := newFilter(r, func(f wire.Frame) error {
		own = append(own, f)
		return nil
	})
	p := make([]byte, size)
	for {
		n, err := f.Read(p)
		out = append(out, p[:n]...)
		if err != nil {
			return out, own, err
		}
	}
}

// split is the filter's definition: headers and payloads of all whole frames up to
// the end, or the first that is too long.
func split(b []byte) (pass, own []byte, rest int) {
	r := bytes.NewReader(b)
	for {
		rest = r.Len()
		h, err := wire.ReadHeader(r)
		if err != nil || h.Length > maxFrame || h.Length > uint64(r.Len()) {
			return pass, own, rest
		}
		frame := h.Append(nil)
		payload := make([]byte, h.Length)
		_, _ = io.ReadFull(r, payload)
		frame = append(frame, payload...)
		if h.Type >= 24 && h.Type <= 26 {
			own = append(own, frame...)
		} else {
			pass = append(pass, frame...)
		}
	}
}

func TestFilter(t *testing.T) {
	goodbye := &wire.Goodbye{Code: wire.CodeReplaced, Text: "newer"}
	var in []byte
	in = wire.Append(in, &wire.Ping{})
	in = wire.Append(in, &wire.Data{Channel: wire.ChannelStdout, Bytes: bytes.Repeat([]byte("bulk"), 4096)})
	in = wire.Append(in, &wire.CloseInput{})
	in = wire.Append(in, &wire.Pong{})
	in = append(in, 0x7f, 0xff, 3, 1, 2, 3) // of a type that nobody knows
	in = wire.Append(in, goodbye)
	want, _, _ := split(in)
	for _, size := range []int{1, 2, 3, 100, 4096, 1 << 20} {
		for _, r := range []io.Reader{bytes.NewReader(in), iotest.OneByteReader(bytes.NewReader(in)), iotest.DataErrReader(bytes.NewReader(in))} {
			out, own, err := filtered(r, size)
			if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("buffer of %d: %v", size, err)
			}
			if !bytes.Equal(out, want) {
				t.Errorf("buffer of %d: %d bytes passed, want %d", size, len(out), len(want))
			}
			if d := cmp.Diff([]wire.Frame{&wire.Ping{}, &wire.Pong{}, goodbye}, own); d != "" {
				t.Errorf("buffer of %d: taken (-want +got):\n%s", size, d)
			}
		}
	}
}

func TestFilterBroken(t *testing.T) {
	tests := []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"cut header", []byte{0x40}, io.ErrUnexpectedEOF},
		{"no length", []byte{1}, io.ErrUnexpectedEOF},
		{"cut payload", []byte{1, 3, 1, 2}, io.ErrUnexpectedEOF},
		{"no payload", []byte{1, 3}, io.ErrUnexpectedEOF},
		{"cut goodbye", []byte{26, 3, 1}, io.ErrUnexpectedEOF},
		{"too long", wire.Header{Type: 1, Length: maxFrame + 1}.Append(nil), errBroken},
		{"far too long", wire.Header{Type: 26, Length: 1 << 61}.Append(nil), errBroken},
		{"goodbye without fields", []byte{26, 0}, errBroken},
		{"goodbye with bytes for text", []byte{26, 3, 0, 1, 0xff}, errBroken},
	}
	for _, tt := range tests {
		if _, _, err := filtered(bytes.NewReader(tt.in), 100); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	longest := append(wire.Header{Type: 1, Length: maxFrame}.Append(nil), make([]byte, maxFrame)...)
	if out, _, err := filtered(bytes.NewReader(longest), 4096); len(out) != len(longest) || !errors.Is(err, io.EOF) {
		t.Errorf("the longest frame: %d bytes, %v", len(out), err)
	}
	broken := errors.New("broken pipe")
	if _, _, err := filtered(io.MultiReader(strings.NewReader("\x01\x05ab"), iotest.ErrReader(broken)), 10); !errors.Is(err, broken) {
		t.Errorf("reader's error came as %v", err)
	}
}

// A header alone must not wait for its payload to fill the buffer.
func TestFilterDoesNotWait(t *testing.T) {
	r, w := io.Pipe()
	go func() { _, _ = w.Write([]byte{1, 3, 9}) }()
	f := newFilter(r, nil)
	p := make([]byte, 100)
	if n, err := f.Read(p); n != 3 || err != nil {
		t.Errorf("read %d bytes, %v, want the 3 that are there", n, err)
	}
}

func FuzzFilter(f *testing.F) {
	for _, frame := range []wire.Frame{
		&wire.Ping{}, &wire.Pong{}, &wire.Goodbye{Code: 12, Text: "bye"}, &wire.Data{Bytes: []byte("hi")}, &wire.Hello{},
	} {
		f.Add(append(wire.Append(nil, frame), wire.Append(nil, &wire.Synced{Seq: 300})...), uint8(7))
	}
	f.Add([]byte{26, 3, 0, 1, 0xff}, uint8(1))
	f.Add(wire.Header{Type: 1, Length: 1 << 61}.Append(nil), uint8(200))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		out, taken, err := filtered(bytes.NewReader(in), int(size)+1)
		wantOut, own, rest := split(in)
		// A frame of the carrier that can't be parsed ends it early; else all whole
		// frames come through, and of one that is cut off what is there.
		var wantTaken []wire.Frame
		r := wire.NewReader(bufio.NewReader(bytes.NewReader(own)), maxFrame)
		var werr error
		for {
			var frame wire.Frame
			if frame, werr = r.Next(); werr != nil {
				break
			}
			wantTaken = append(wantTaken, frame)
		}
		if d := cmp.Diff(wantTaken, taken); d != "" {
			t.Fatalf("taken (-want +got):\n%s", d)
		}
		switch {
		case !errors.Is(werr, io.EOF):
			if !errors.Is(err, errBroken) || !bytes.HasPrefix(wantOut, out) {
				t.Fatalf("after a broken frame: %d bytes, %v", len(out), err)
			}
		case !bytes.HasPrefix(out, wantOut):
			t.Fatalf("passed %x, want %x", out, wantOut)
		case rest == 0 && (!errors.Is(err, io.EOF) || len(out) != len(wantOut)):
			t.Fatalf("whole frames: %d bytes, want %d, %v", len(out), len(wantOut), err)
		case rest > 0 && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errBroken):
			t.Fatalf("%d bytes left over: %v", rest, err)
		}
	})
}
