package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/quic-go/quic-go/quicvarint"
)

// golden has one example of every frame and its exact bytes, type and length
// first. A change here is a change of the protocol.
func golden() []struct {
	name string
	f    Frame
	hex  string
} {
	return []struct {
		name string
		f    Frame
		hex  string
	}{
		{
			"hello",
			&Hello{Versions: []uint64{1}, Incarnation: [16]byte{0xaa, 15: 0xbb}, Seq: 7, AgentVersion: "v1", OS: "linux", Arch: "arm64", Hostname: "h", Features: []string{"a", "b"}, Labels: []string{"z=1"}, Session: [16]byte{0xcc, 15: 0xdd}, Carrier: 2, MaxStreams: 64},
			"014041" + "0101" + "aa0000000000000000000000000000bb" + "07" + "027631" + "056c696e7578" + "0561726d3634" + "0168" + "0201610162" + "01037a3d31" + "cc0000000000000000000000000000dd" + "02" + "4040",
		},
		{"welcome", &Welcome{Version: 1, Replica: "p0", UnixMilli: 1000, Features: []string{"a"}, Session: [16]byte{0xcc}, GraceMilli: 5, MaxStreams: 6}, "02401b" + "01" + "027030" + "43e8" + "010161" + "cc000000000000000000000000000000" + "05" + "06"},
		{"have", &Have{Entries: []Entry{{"pods/d/p", "u/1"}}, Last: true}, "03400f" + "01" + "01" + "08706f64732f642f70" + "03752f31"},
		{"upsert", &Upsert{Seq: 1, Key: "k", Version: "v", Value: []byte{1, 2}}, "044008" + "01" + "016b" + "0176" + "020102"},
		{"delete", &Delete{Seq: 300, Key: "k"}, "054004" + "412c" + "016b"},
		{"synced", &Synced{Seq: 9}, "064001" + "09"},
		{"ack", &Ack{Seq: 9, Step: StepRunning}, "074002" + "0903"},
		{"report", &Report{Seq: 5, Subject: SubjectPod, Key: "k", Value: []byte{9}}, "084006" + "05" + "02" + "016b" + "0109"},
		{"report ack", &ReportAck{Seq: 5}, "094001" + "05"},
		{
			"exec request",
			&ExecRequest{Namespace: "n", Pod: "p", UID: "u", Container: "c", Command: []string{"ls", "-l"}, TTY: true, Stdin: false, Stdout: true, Stderr: true},
			"0a4013" + "016e" + "0170" + "0175" + "0163" + "02026c73022d6c" + "01" + "00" + "01" + "01",
		},
		{"data", &Data{Channel: ChannelStderr, Bytes: []byte("hi")}, "0b4003" + "02" + "6869"},
		{"resize", &Resize{Width: 80, Height: 24}, "0c4003" + "4050" + "18"},
		{"close input", &CloseInput{}, "0d4000"},
		{"exit", &Exit{Code: 137}, "0e4002" + "4089"},
		{"error", &Error{Code: CodeNotFound, Text: "no"}, "0f4004" + "04" + "026e6f"},
		{"stream open", &StreamOpen{ID: 3, Kind: KindExec, Limit: 32768}, "104006" + "03" + "05" + "80008000"},
		{"stream data", &StreamData{ID: 3, Offset: 64, Fin: true, Bytes: []byte("hi")}, "114006" + "03" + "4040" + "01" + "6869"},
		{"stream ack", &StreamAck{ID: 3, Received: 2, Limit: 64, Done: true, Code: CodeCanceled}, "124006" + "03" + "02" + "4040" + "01" + "09"},
		{"stream abort", &StreamAbort{ID: 3, Code: CodeCanceled}, "134002" + "03" + "09"},
		{"resume", &Resume{Streams: []StreamAck{{ID: 3}, {ID: 4, Received: 2}}}, "14400b" + "02" + "0300000000" + "0402000000"},
		{"go away", &GoAway{Milliseconds: 9, Text: "no"}, "154004" + "09" + "026e6f"},
		{"ping", &Ping{}, "184000"},
		{"pong", &Pong{}, "194000"},
		{"goodbye", &Goodbye{Code: CodeGoingAway, Text: "bye"}, "1a4005" + "0c" + "03627965"},
	}
}

func reader(b []byte) *Reader { return NewReader(bufio.NewReader(bytes.NewReader(b)), 1<<20) }

func TestGolden(t *testing.T) {
	seen := map[Type]bool{}
	for _, tt := range golden() {
		t.Run(tt.name, func(t *testing.T) {
			seen[tt.f.Type()] = true
			got := Append(nil, tt.f)
			if h := hex.EncodeToString(got); h != tt.hex {
				t.Fatalf("bytes\n got %s\nwant %s", h, tt.hex)
			}
			back, err := reader(got).Next()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.f, back); d != "" {
				t.Fatalf("read back (-want +got):\n%s", d)
			}
		})
	}
	for ty := range typeGoodbye + 1 {
		if newFrame(ty) != nil && !seen[ty] {
			t.Errorf("frame type %d has no golden bytes", ty)
		}
	}
}

func TestTruncated(t *testing.T) {
	for _, tt := range golden() {
		whole := Append(nil, tt.f)
		for n := range whole {
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if _, err := reader(whole[:n]).Next(); !errors.Is(err, want) {
				t.Errorf("%s cut to %d of %d bytes: got error %v, want %v", tt.name, n, len(whole), err, want)
			}
		}
		// The same with a length that says it is whole: fields run out inside.
		_, payload := header(t, whole)
		for n := range payload {
			b := quicvarint.Append(nil, uint64(tt.f.Type()))
			b = append(quicvarint.Append(b, uint64(n)), payload[:n]...)
			if _, ok := tt.f.(*Data); ok && n > 0 {
				continue // a shorter Data frame is a Data frame
			}
			if _, ok := tt.f.(*StreamData); ok && n > 3 {
				continue
			}
			if _, err := reader(b).Next(); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s with %d of %d payload bytes: got error %v, want ErrMalformed", tt.name, n, len(payload), err)
			}
		}
	}
}

func header(t *testing.T, whole []byte) (Type, []byte) {
	t.Helper()
	ty, n, err := quicvarint.Parse(whole)
	if err != nil {
		t.Fatal(err)
	}
	_, m, err := quicvarint.Parse(whole[n:])
	if err != nil {
		t.Fatal(err)
	}
	return Type(ty), whole[n+m:]
}

func TestNewerPeer(t *testing.T) {
	// A frame of unknown type, then a known one with a field that is not known here.
	b := append(quicvarint.Append(quicvarint.Append(nil, 9999), 3), 1, 2, 3)
	b = append(b, 6, 2, 9, 77)
	f, err := reader(b).Next()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Frame(&Synced{Seq: 9}), f); d != "" {
		t.Error(d)
	}
}

func TestBound(t *testing.T) {
	b := Append(nil, &Data{Bytes: make([]byte, 100)})
	r := NewReader(bufio.NewReader(bytes.NewReader(b)), 100)
	if _, err := r.Next(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("payload of 101 bytes, bound 100: got %v, want ErrTooLarge", err)
	}
	// A long frame moves its payload to make room for its length.
	long := &Data{Channel: ChannelStdout, Bytes: bytes.Repeat([]byte("x"), 1<<15)}
	f, err := reader(Append([]byte(nil), long)).Next()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Frame(long), f); d != "" {
		t.Error("long frame came back changed")
	}
}

func TestHostileLengths(t *testing.T) {
	huge := quicvarint.Append(nil, 1<<61)
	for _, ty := range []Type{typeHello, typeHave, typeExecRequest, typeUpsert} {
		b := quicvarint.Append(nil, uint64(ty))
		b = append(quicvarint.Append(b, uint64(len(huge)+1)), 1)
		b = append(b, huge...)
		if _, err := reader(b).Next(); !errors.Is(err, ErrMalformed) {
			t.Errorf("type %d with a count of 2^61: got %v, want ErrMalformed", ty, err)
		}
	}
}

func TestErrorIs(t *testing.T) {
	err := error(&Error{Code: CodeNotFound, Text: "no pod"})
	if !errors.Is(err, &Error{Code: CodeNotFound}) || errors.Is(err, &Error{Code: CodeInternal}) {
		t.Error("errors.Is must compare codes")
	}
	for c := CodeOK; c <= CodeVersion; c++ {
		if strings.HasPrefix(c.String(), "code ") || c.HTTPStatus() < 200 {
			t.Errorf("code %d has no text or status", c)
		}
	}
}

func TestKind(t *testing.T) {
	for _, k := range []Kind{KindControl, KindDesired, KindReport, KindKubelet, KindExec, 5000} {
		got, err := ReadKind(bytes.NewReader(AppendKind(nil, k)))
		if err != nil || got != k {
			t.Errorf("kind %v came back as %v, %v", k, got, err)
		}
	}
	if _, err := ReadKind(bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
		t.Errorf("empty stream: got %v, want EOF", err)
	}
}

func FuzzReader(f *testing.F) {
	for _, tt := range golden() {
		f.Add(Append(nil, tt.f))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := reader(b)
		for {
			fr, err := r.Next()
			if err != nil {
				return
			}
			again, err := reader(Append(nil, fr)).Next()
			if err != nil {
				t.Fatalf("%#v does not read back: %v", fr, err)
			}
			if d := cmp.Diff(fr, again); d != "" {
				t.Fatal(d)
			}
		}
	})
}
