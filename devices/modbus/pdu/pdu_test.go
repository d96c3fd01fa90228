package pdu

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func must(r Request, err error) Request {
	if err != nil {
		panic(err)
	}
	return r
}

// golden are the examples of the specification, section 6: request, answer, data.
func golden() []struct {
	name          string
	request       Request
	wire, answer  string
	data          string
	address, size int
} {
	return []struct {
		name          string
		request       Request
		wire, answer  string
		data          string
		address, size int
	}{
		{"coils", must(Read(ReadCoils, 19, 19)), "0100130013", "0103cd6b05", "cd6b05", 19, 19},
		{"inputs", must(Read(ReadDiscreteInputs, 196, 22)), "0200c40016", "0203acdb35", "acdb35", 196, 22},
		{"holding", must(Read(ReadHoldingRegisters, 107, 3)), "03006b0003", "0306022b00000064", "022b00000064", 107, 3},
		{"input", must(Read(ReadInputRegisters, 8, 1)), "0400080001", "0402000a", "000a", 8, 1},
		{"coil", WriteCoil(172, true), "0500acff00", "0500acff00", "", 172, 1},
		{"register", WriteRegister(1, 3), "0600010003", "0600010003", "", 1, 1},
		{
			"many coils", must(WriteCoils(19, []bool{true, false, true, true, false, false, true, true, true, false})),
			"0f0013000a02cd01", "0f0013000a", "", 19, 10,
		},
		{"many registers", must(WriteRegisters(1, []byte{0, 10, 1, 2})), "100001000204000a0102", "1000010002", "", 1, 2},
		{"mask", MaskWrite(4, 0xf2, 0x25), "16000400f20025", "16000400f20025", "", 4, 1},
		{
			"read and write", must(ReadWrite(3, 6, 14, []byte{0, 255, 0, 255, 0, 255})),
			"17000300" + "06000e00" + "030600ff00ff00ff", "170c00fe0acd00010003000d00ff", "00fe0acd00010003000d00ff", 3, 6,
		},
		{
			"identify", Identify(Basic, 0), "2b0e0100",
			"2b0e0101000003" + "0002" + "4142" + "0101" + "43" + "0200", "0e0101000003" + "0002" + "4142" + "0101" + "43" + "0200", 0, 0,
		},
	}
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestExamplesOfTheSpecification(t *testing.T) {
	for _, c := range golden() {
		t.Run(c.name, func(t *testing.T) {
			if got := hex.EncodeToString(c.request); got != c.wire {
				t.Errorf("request %s, want %s", got, c.wire)
			}
			if int(c.request.Address()) != c.address || c.request.Count() != c.size {
				t.Errorf("%d elements from %d, want %d from %d", c.request.Count(), c.request.Address(), c.size, c.address)
			}
			if _, err := ParseRequest(unhex(t, c.wire)); err != nil {
				t.Error(err)
			}
			for n := range len(c.wire) / 2 {
				if _, err := ParseRequest(unhex(t, c.wire)[:n]); err == nil {
					t.Errorf("request cut to %d bytes passes", n)
				}
			}
			answer := unhex(t, c.answer)
			data, err := c.request.Check(answer)
			if err != nil || hex.EncodeToString(data) != c.data {
				t.Errorf("answer %x, %v, want %s", data, err, c.data)
			}
			for n := range answer {
				if _, err := c.request.Check(answer[:n]); !errors.Is(err, ErrMismatch) {
					t.Errorf("answer cut to %d bytes: %v", n, err)
				}
				if got := c.request.Size(answer[:n]); got != 0 && got != len(answer) {
					t.Errorf("the first %d bytes tell a size of %d, want %d", n, got, len(answer))
				}
			}
			if _, err := c.request.Check(append(bytes.Clone(answer), 0)); !errors.Is(err, ErrMismatch) {
				t.Errorf("one byte too many: %v", err)
			}
			if c.request.MaxAnswer() < len(answer) {
				t.Errorf("longest answer %d, this one %d", c.request.MaxAnswer(), len(answer))
			}
		})
	}
}

func TestExceptionIsTyped(t *testing.T) {
	r := must(Read(ReadHoldingRegisters, 0, 10))
	_, err := r.Check([]byte{0x83, 2})
	if !errors.Is(err, &Exception{Code: IllegalDataAddress}) || errors.Is(err, &Exception{Code: DeviceBusy}) {
		t.Errorf("got %v", err)
	}
	if want := "read holding registers: illegal data address"; err == nil || err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	for _, bad := range [][]byte{{0x83}, {0x83, 0}, {0x83, 2, 0}, {0x84, 2}} {
		var e *Exception
		if _, err := r.Check(bad); !errors.Is(err, ErrMismatch) || errors.As(err, &e) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

func TestAnswerToAnotherRequestIsRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		request Request
		answer  []byte
	}{
		{"fewer registers", must(Read(ReadHoldingRegisters, 0, 2)), []byte{3, 2, 0, 1}},
		{"byte count beside the length", must(Read(ReadHoldingRegisters, 0, 2)), []byte{3, 2, 0, 1, 0, 1}},
		{"another register written", WriteRegister(1, 3), []byte{6, 0, 2, 0, 3}},
		{"another value written", WriteRegister(1, 3), []byte{6, 0, 1, 0, 4}},
		{"another range written", must(WriteRegisters(1, []byte{0, 1, 0, 2})), []byte{16, 0, 1, 0, 1}},
		{"another mask", MaskWrite(1, 2, 3), []byte{22, 0, 1, 0, 2, 0, 4}},
		{"another MEI type", Identify(Basic, 0), []byte{43, 13, 1, 1, 0, 0, 0}},
		{"objects past the end", Identify(Basic, 0), []byte{43, 14, 1, 1, 0, 0, 1, 0, 9, 'x'}},
	} {
		if data, err := c.request.Check(c.answer); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %x, %v", c.name, data, err)
		}
	}
}

func TestBounds(t *testing.T) {
	for name, f := range map[string]func() (Request, error){
		"no coil":             func() (Request, error) { return Read(ReadCoils, 0, 0) },
		"2001 coils":          func() (Request, error) { return Read(ReadCoils, 0, 2001) },
		"126 registers":       func() (Request, error) { return Read(ReadInputRegisters, 0, 126) },
		"past the end":        func() (Request, error) { return Read(ReadHoldingRegisters, 65535, 2) },
		"read by a write":     func() (Request, error) { return Read(WriteSingleCoil, 0, 1) },
		"1969 coils":          func() (Request, error) { return WriteCoils(0, make([]bool, 1969)) },
		"124 registers":       func() (Request, error) { return WriteRegisters(0, make([]byte, 248)) },
		"half a register":     func() (Request, error) { return WriteRegisters(0, make([]byte, 3)) },
		"122 written, 1 read": func() (Request, error) { return ReadWrite(0, 1, 0, make([]byte, 244)) },
		"1 written, 126 read": func() (Request, error) { return ReadWrite(0, 126, 0, make([]byte, 2)) },
	} {
		if r, err := f(); err == nil {
			t.Errorf("%s: %x passes", name, []byte(r))
		}
	}
	for name, r := range map[string]Request{
		"2000 coils":          must(Read(ReadCoils, 0, 2000)),
		"125 registers":       must(Read(ReadHoldingRegisters, 65411, 125)),
		"1968 coils":          must(WriteCoils(0, make([]bool, 1968))),
		"123 registers":       must(WriteRegisters(0, make([]byte, 246))),
		"121 written, 125 re": must(ReadWrite(0, 125, 0, make([]byte, 242))),
	} {
		if _, err := ParseRequest(r); err != nil || len(r) > MaxSize {
			t.Errorf("%s: %d bytes, %v", name, len(r), err)
		}
	}
}

func TestIdentification(t *testing.T) {
	r := Identify(Regular, 3)
	data, err := r.Check([]byte{43, 14, 2, 0x82, 0xFF, 5, 2, 3, 3, 'u', 'r', 'l', 4, 1, 'n'})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseIdentification(data)
	want := Identification{Conformity: 0x82, More: true, Next: 5, Objects: []Object{{VendorURL, "url"}, {ProductName, "n"}}}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v: %s", err, cmp.Diff(want, got))
	}
	if _, err := ParseIdentification(append(data, 1)); err == nil {
		t.Error("a byte after the last object passes")
	}
}

func TestNames(t *testing.T) {
	for f := Function(1); f < 50; f++ {
		if named := !strings.HasPrefix(f.String(), "function"); named && f != EncapsulatedInterface && !f.Writes() && f.maxRead() == 0 {
			t.Errorf("%v has a name and no meaning", f)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, c := range golden() {
		f.Add([]byte(c.request), unhex(f, c.answer))
	}
	f.Fuzz(func(t *testing.T, request, answer []byte) {
		r, err := ParseRequest(request)
		if err != nil {
			return
		}
		size := r.Size(answer)
		if size > MaxSize || size > r.MaxAnswer() {
			t.Fatalf("an answer of %d bytes to %x", size, request)
		}
		data, err := r.Check(answer)
		if err != nil {
			return
		}
		if size != len(answer) {
			t.Fatalf("%x passes with %d bytes, its size is %d", answer, len(answer), size)
		}
		switch r.Function() {
		case ReadCoils, ReadDiscreteInputs:
			if len(data) != (r.Count()+7)/8 {
				t.Fatalf("%d bytes of %d bits", len(data), r.Count())
			}
		case ReadHoldingRegisters, ReadInputRegisters, ReadWriteMultipleRegisters:
			if len(data) != 2*r.Count() {
				t.Fatalf("%d bytes of %d registers", len(data), r.Count())
			}
		case EncapsulatedInterface:
			if _, err := ParseIdentification(data); err != nil {
				t.Fatalf("Check passes what ParseIdentification refuses: %v", err)
			}
		default:
			if data != nil {
				t.Fatalf("a write returns %x", data)
			}
		}
	})
}
