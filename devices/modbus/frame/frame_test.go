package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

func read(tb testing.TB, count int) pdu.Request {
	tb.Helper()
	r, err := pdu.Read(pdu.ReadHoldingRegisters, 0, count)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// answer is an RTU answer of unit to read(n), with registers of value v.
func answer(unit byte, n int, v byte) []byte {
	return AppendRTU(nil, unit, append([]byte{3, byte(2 * n)}, bytes.Repeat([]byte{v}, 2*n)...))
}

func TestBytesOnTheWire(t *testing.T) {
	// The frame of the serial line specification, 6.2.1, and CRC vectors of it.
	if got := hex.EncodeToString(AppendRTU(nil, 2, []byte{7})); got != "02074112" {
		t.Errorf("RTU %s, want 02074112", got)
	}
	if got := hex.EncodeToString(AppendRTU([]byte{9}, 1, []byte{3, 0, 0, 0, 10})); got != "0901030000000ac5cd" {
		t.Errorf("RTU %s", got)
	}
	// The example of the messaging guide, 3.1.3: read one register of unit 255.
	if got := hex.EncodeToString(MBAP{0x1501, 0xFF}.Append(nil, []byte{3, 0, 4, 0, 1})); got != "150100000006ff0300040001" {
		t.Errorf("MBAP %s", got)
	}
}

func TestMBAPStreamInPiecesOfAnySize(t *testing.T) {
	var stream []byte
	for i := range 20 {
		stream = MBAP{uint16(i), byte(i)}.Append(stream, bytes.Repeat([]byte{byte(i)}, 2+i*13))
	}
	for size := 1; size < 300; size++ {
		var r MBAPReader
		got := 0
		for rest := stream; len(rest) > 0; {
			n := min(size, len(rest))
			r.Feed(rest[:n])
			rest = rest[n:]
			for {
				h, body, ok, err := r.Next()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				if h != (MBAP{uint16(got), byte(got)}) || !bytes.Equal(body, bytes.Repeat([]byte{byte(got)}, 2+got*13)) {
					t.Fatalf("pieces of %d: frame %d is %v %x", size, got, h, body)
				}
				got++
			}
		}
		if got != 20 {
			t.Fatalf("pieces of %d: %d frames", size, got)
		}
	}
}

func TestMBAPOutOfStep(t *testing.T) {
	for _, b := range [][]byte{
		{0, 1, 0, 1, 0, 6, 1},     // protocol 1
		{0, 1, 0, 0, 0, 1, 1},     // no function
		{0, 1, 0, 0, 0, 0, 1},     // no unit
		{0, 1, 0, 0, 0, 255, 1},   // longer than a PDU may be
		{0, 1, 0, 0, 255, 255, 1}, // far longer
	} {
		var r MBAPReader
		r.Feed(b)
		if _, _, ok, err := r.Next(); ok || !errors.Is(err, ErrOutOfStep) {
			t.Errorf("%x: %v, %v", b, ok, err)
		}
	}
}

func TestRTUAnswerAmongGarbage(t *testing.T) {
	want := answer(7, 2, 0xAB)
	late := answer(7, 3, 0xCD)
	damaged := bytes.Clone(want)
	damaged[4] ^= 1
	for name, before := range map[string][]byte{
		"nothing":             nil,
		"noise":               {1, 2, 3, 250, 251},
		"its own unit":        {7},
		"its own beginning":   {7, 3, 4},
		"a late answer":       late,
		"a damaged one":       damaged,
		"another unit's":      answer(8, 2, 1),
		"half of a late one":  late[:5],
		"an echo of the read": AppendRTU(nil, 7, read(t, 2)),
		"a flood":             bytes.Repeat([]byte{7, 3, 4}, 400),
		"a late exception":    AppendRTU(nil, 7, []byte{0x84, 2}),
	} {
		t.Run(name, func(t *testing.T) {
			var r RTUReader
			stream := append(bytes.Clone(before), want...)
			var body []byte
			for i := range stream { // byte by byte, as lines do
				r.Feed(stream[i : i+1])
				b, ok := r.Next(7, read(t, 2))
				if ok {
					if i != len(stream)-1 {
						t.Fatalf("an answer after %d of %d bytes: %x", i+1, len(stream), b)
					}
					body = b
				}
			}
			if !bytes.Equal(body, want[1:len(want)-2]) {
				t.Fatalf("got %x", body)
			}
			if r.Garbage != uint64(len(before)) || r.Pending() != 0 {
				t.Errorf("%d bytes of garbage, want %d; %d pending", r.Garbage, len(before), r.Pending())
			}
		})
	}
}

func TestRTUNeverTakesADamagedFrame(t *testing.T) {
	want := answer(7, 2, 0xAB)
	for i := range want {
		for bit := range 8 {
			b := bytes.Clone(want)
			b[i] ^= 1 << bit
			var r RTUReader
			r.Feed(b)
			if body, ok := r.Next(7, read(t, 2)); ok {
				t.Fatalf("bit %d of byte %d flipped: %x passes", bit, i, body)
			}
		}
	}
}

func TestRTUTwoAnswersInOnePiece(t *testing.T) {
	var r RTUReader
	r.Feed(append(answer(7, 2, 1), answer(8, 1, 2)...))
	if body, ok := r.Next(7, read(t, 2)); !ok || body[2] != 1 {
		t.Fatalf("first %x, %v", body, ok)
	}
	if body, ok := r.Next(8, read(t, 1)); !ok || body[2] != 2 {
		t.Fatalf("second %x, %v", body, ok)
	}
	if r.Garbage != 0 {
		t.Errorf("%d bytes of garbage", r.Garbage)
	}
	r.Feed([]byte{7, 3})
	r.Reset()
	if r.Pending() != 0 || r.Garbage != 2 {
		t.Errorf("%d pending, %d garbage after Reset", r.Pending(), r.Garbage)
	}
}

func TestLine(t *testing.T) {
	for _, c := range []struct {
		line           Line
		ten            time.Duration
		gap, pause     time.Duration
		nameOfTheSpeed string
	}{
		{Line{9600, true, 1}, 11458333, 4010416, 1718750, "9600 8E1"},
		{Line{19200, false, 1}, 5208333, 1822916, 781250, "19200 8N1"},
		{Line{115200, true, 1}, 954861, 1750 * time.Microsecond, 750 * time.Microsecond, "115200 8E1"},
		{Line{1200, false, 2}, 91666666, 32083333, 13750000, "1200 8N2"},
	} {
		if c.line.Transmit(10) != c.ten || c.line.Gap() != c.gap || c.line.Pause() != c.pause {
			t.Errorf("%s: %v, %v, %v", c.nameOfTheSpeed, c.line.Transmit(10), c.line.Gap(), c.line.Pause())
		}
	}
}

func FuzzMBAP(f *testing.F) {
	f.Add(MBAP{1, 2}.Append(nil, []byte{3, 2, 0, 1}), uint8(3))
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0}, uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		var r MBAPReader
		var again []byte
		for rest := stream; len(rest) > 0; {
			n := min(int(size)+1, len(rest))
			r.Feed(rest[:n])
			rest = rest[n:]
			for {
				h, body, ok, err := r.Next()
				if err != nil {
					return
				}
				if !ok {
					break
				}
				if len(body) == 0 || len(body) > pdu.MaxSize {
					t.Fatalf("body of %d bytes", len(body))
				}
				again = h.Append(again, body)
			}
			if len(r.buf)-r.done > mbapHeader+pdu.MaxSize+256 {
				t.Fatalf("%d bytes kept", len(r.buf))
			}
		}
		if !bytes.HasPrefix(stream, again) {
			t.Fatalf("read %x of %x", again, stream)
		}
	})
}

func FuzzRTU(f *testing.F) {
	f.Add(answer(7, 2, 1), []byte{3, 0, 0, 0, 2}, uint64(1))
	f.Add([]byte{7, 0x83, 2, 0xe1, 0x31}, []byte{3, 0, 0, 0, 2}, uint64(2))
	f.Add(AppendRTU(nil, 7, []byte{43, 14, 1, 1, 0, 0, 1, 0, 1, 65}), []byte{43, 14, 1, 0}, uint64(3))
	f.Fuzz(func(t *testing.T, stream, request []byte, seed uint64) {
		req, err := pdu.ParseRequest(request)
		if err != nil {
			return
		}
		var r RTUReader
		rnd := rand.New(rand.NewPCG(seed, 0))
		taken := 0
		for rest := stream; len(rest) > 0; {
			n := min(1+rnd.IntN(40), len(rest))
			r.Feed(rest[:n])
			rest = rest[n:]
			body, ok := r.Next(7, req)
			if len(r.buf) > maxPending {
				t.Fatalf("%d bytes kept", len(r.buf))
			}
			if !ok {
				continue
			}
			if !bytes.Contains(stream, AppendRTU(nil, 7, body)) {
				t.Fatalf("%x is not in %x", body, stream)
			}
			taken += 3 + len(body)
		}
		if got := int(r.Garbage) + taken + r.Pending(); got != len(stream) {
			t.Fatalf("%d of %d bytes accounted for", got, len(stream))
		}
	})
}
