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
			"014042" + "0101" + "aa0000000000000000000000000000bb" + "07" + "027631" + "056c696e7578" + "0561726d3634" + "0168" + "0201610162" + "01037a3d31" + "cc0000000000000000000000000000dd" + "02" + "4040" + "00",
		},
		{
			"hello with taints",
			&Hello{Versions: []uint64{1}, Taints: []Taint{{"k", "v", "NoExecute"}, {"z", "", "NoSchedule"}}},
			"014048" + "0101" + "00000000000000000000000000000000" + "00" + "00" + "00" + "00" + "00" + "00" + "00" + "00000000000000000000000000000000" + "00" + "00" + "02" + "016b" + "0176" + "094e6f45786563757465" + "017a" + "00" + "0a4e6f5363686564756c65",
		},
		{"welcome", &Welcome{Version: 1, Replica: "p0", UnixMilli: 1000, Features: []string{"a"}, Session: [16]byte{0xcc}, GraceMilli: 5, MaxStreams: 6}, "02401b" + "01" + "027030" + "43e8" + "010161" + "cc000000000000000000000000000000" + "05" + "06"},
		{"have", &Have{Entries: []Entry{{"pods/d/p", "u/1"}}, Last: true}, "03400f" + "01" + "01" + "08706f64732f642f70" + "03752f31"},
		{"upsert", &Upsert{Seq: 1, Key: "k", Version: "v", Value: []byte{1, 2}, Encoding: 1}, "044009" + "01" + "016b" + "0176" + "020102" + "01"},
		{"delete", &Delete{Seq: 300, Key: "k"}, "054004" + "412c" + "016b"},
		{"synced", &Synced{Seq: 9}, "064001" + "09"},
		{"ack", &Ack{Seq: 9, Step: StepRunning}, "074002" + "0903"},
		{"report", &Report{Seq: 5, Subject: SubjectPod, Key: "k", Value: []byte{9}}, "084006" + "05" + "02" + "016b" + "0109"},
		{"certificate wanted", &Report{Seq: 5, Subject: SubjectCertificate, Key: "k", Value: []byte{9}}, "084006" + "05" + "07" + "016b" + "0109"},
		{"report ack", &ReportAck{Seq: 5}, "094001" + "05"},
		{
			"exec request",
			&ExecRequest{Namespace: "n", Pod: "p", UID: "u", Container: "c", Command: []string{"ls", "-l"}, TTY: true, Stdin: false, Stdout: true, Stderr: true},
			"0a4014" + "016e" + "0170" + "0175" + "0163" + "02026c73022d6c" + "01" + "00" + "01" + "01" + "00",
		},
		{
			"attach request",
			&ExecRequest{Namespace: "n", Pod: "p", UID: "u", Container: "c", Stdout: true, Attach: true},
			"0a400e" + "016e" + "0170" + "0175" + "0163" + "00" + "00" + "00" + "01" + "00" + "01",
		},
		{"forward request", &ForwardRequest{Namespace: "n", Pod: "p", UID: "u", Port: 8080}, "204008" + "016e" + "0170" + "0175" + "5f90"},
		{"packet ack", &PacketAck{Microseconds: 9, Ranges: []PacketRange{{80, 100}, {7, 7}, {0, 5}}}, "28400a" + "09" + "03" + "406414" + "404900" + "0205"},
		{"packet probe", &PacketProbe{Padding: []byte{0, 0}}, "294002" + "0000"},
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
		{
			"digest",
			&Digest{Base: 100, Buckets: []Bucket{{Sum: [8]byte{0xaa, 7: 0xbb}}, {Sum: [8]byte{0xcc}, Expiries: []uint64{0, 300}}}},
			"1b4018" + "4064" + "02" + "aa000000000000bb" + "00" + "cc00000000000000" + "02" + "00" + "412c",
		},
		{"want", &Want{Buckets: []uint64{3, 200}}, "1c4004" + "02" + "03" + "40c8"},
		{"resend", &Resend{Key: "k"}, "1f4002" + "016b"},
		{"progress", &Progress{Entries: []Advance{{Key: "k", Step: StepApplied, Seconds: 70}}}, "1d4006" + "01" + "016b" + "02" + "4046"},
		{"outbox", &Outbox{ID: [8]byte{0xaa, 7: 0xbb}}, "1e4008" + "aa000000000000bb"},
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
	for ty := range Type(64) {
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
			if _, ok := tt.f.(*PacketProbe); ok {
				continue // padding may have any length
			}
			if _, ok := tt.f.(*ExecRequest); ok && n == len(payload)-1 {
				continue // as from a cloud that does not know Attach
			}
			if hello, ok := tt.f.(*Hello); ok && n == len(payload)-taintBytes(hello) {
				continue // as from an edge that does not know Taints
			}
			if _, err := reader(b).Next(); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s with %d of %d payload bytes: got error %v, want ErrMalformed", tt.name, n, len(payload), err)
			}
		}
	}
}

// taintBytes is how long the field is that edges of before it do not send.
func taintBytes(f *Hello) int {
	without := *f
	without.Taints = nil
	return len(Append(nil, f)) - len(Append(nil, &without)) + 1
}

// TestOlderPeer: a Hello of before Taints is one without any, and what stands there now
// is what an older cloud passes over.
func TestOlderPeer(t *testing.T) {
	const old = "01" + "4041" + "0101" + "aa0000000000000000000000000000bb" + "07" + "027631" + "056c696e7578" + "0561726d3634" + "0168" + "0201610162" + "01037a3d31" + "cc0000000000000000000000000000dd" + "02" + "4040"
	b, err := hex.DecodeString(old)
	if err != nil {
		t.Fatal(err)
	}
	f, err := reader(b).Next()
	if err != nil {
		t.Fatal(err)
	}
	want := golden()[0].f
	if d := cmp.Diff(want, f); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	now := hex.EncodeToString(Append(nil, want))
	if !strings.HasPrefix(now[6:], old[6:]) {
		t.Errorf("the fields of before have changed:\n now %s\nthen %s", now, old)
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
	for c := CodeOK; c <= CodeNextCarrier; c++ {
		if strings.HasPrefix(c.String(), "code ") || c.HTTPStatus() < 200 {
			t.Errorf("code %d has no text or status", c)
		}
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
