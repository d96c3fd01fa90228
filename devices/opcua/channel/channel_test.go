package channel_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/channel"
	"github.com/skerry-io/skerry/devices/opcua/codec"
)

// server answers on the other end of a pipe, without security.
type server struct {
	conn     net.Conn
	sequence uint32
	policy   string
	skip     uint32            // added to the next sequence number
	answer   func(req any) any // nil answers nothing
	opened   []*ua.OpenSecureChannelRequest
	mute     bool // answers no renewals
}

func header(status ua.StatusCode) *ua.ResponseHeader {
	return &ua.ResponseHeader{Timestamp: time.Now(), ServiceResult: status, ServiceDiagnostics: &ua.DiagnosticInfo{}, StringTable: []string{}, AdditionalHeader: ua.NewExtensionObject(nil)}
}

func (s *server) send(kind string, request uint32, security []byte, service any) {
	body, err := codec.Encode(service)
	if err != nil {
		panic(err)
	}
	s.sequence += 1 + s.skip
	s.skip = 0
	b := append([]byte(kind+"F\x00\x00\x00\x00"), 7, 0, 0, 0)
	b = append(b, security...)
	b = binary.LittleEndian.AppendUint32(b, s.sequence)
	b = binary.LittleEndian.AppendUint32(b, request)
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	_, _ = s.conn.Write(b)
}

func (s *server) serve() {
	for {
		var h [8]byte
		if _, err := io.ReadFull(s.conn, h[:]); err != nil {
			return
		}
		rest := make([]byte, binary.LittleEndian.Uint32(h[4:])-8)
		if _, err := io.ReadFull(s.conn, rest); err != nil {
			return
		}
		switch string(h[:3]) {
		case "HEL":
			b := []byte("ACKF\x1c\x00\x00\x00")
			for _, n := range []uint32{0, 65535, 65535, 0, 0} {
				b = binary.LittleEndian.AppendUint32(b, n)
			}
			_, _ = s.conn.Write(b)
		case "OPN":
			buf := ua.NewBuffer(rest[4:])
			_, _, _ = buf.ReadString(), buf.ReadBytes(), buf.ReadBytes()
			_ = buf.ReadUint32()
			request := buf.ReadUint32()
			v, err := codec.Decode(rest[4+buf.Pos():])
			if err != nil {
				panic(err)
			}
			req := v.(*ua.OpenSecureChannelRequest)
			s.opened = append(s.opened, req)
			if s.mute && len(s.opened) > 1 {
				continue
			}
			security := ua.NewBuffer(nil)
			security.WriteString(s.policy)
			security.WriteByteString(nil)
			security.WriteByteString(nil)
			s.send("OPN", request, security.Bytes(), &ua.OpenSecureChannelResponse{
				ResponseHeader: header(0), SecurityToken: &ua.ChannelSecurityToken{ChannelID: 7, TokenID: uint32(len(s.opened)), RevisedLifetime: req.RequestedLifetime, CreatedAt: time.Now()},
			})
		case "MSG":
			v, err := codec.Decode(rest[16:])
			if err != nil {
				panic(err)
			}
			if a := s.answer(v); a != nil {
				s.send("MSG", binary.LittleEndian.Uint32(rest[12:]), rest[4:8], a)
			}
		}
	}
}

func open(t *testing.T, s *server) (*channel.Channel, error) {
	t.Helper()
	client, other := net.Pipe()
	s.conn = other
	if s.policy == "" {
		s.policy = ua.SecurityPolicyURINone
	}
	ended := make(chan struct{})
	go func() { defer close(ended); s.serve() }()
	t.Cleanup(func() { other.Close(); <-ended })
	return channel.Open(t.Context(), client, channel.Config{URL: "opc.tcp://x", Policy: ua.SecurityPolicyURINone, Mode: ua.MessageSecurityModeNone})
}

func read() *ua.ReadRequest { return &ua.ReadRequest{NodesToRead: []*ua.ReadValueID{}} }

func response() any {
	return &ua.ReadResponse{ResponseHeader: header(0), Results: []*ua.DataValue{}, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

func TestFaultIsNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuse := true
		s := &server{answer: func(any) any {
			if refuse = !refuse; refuse {
				return response()
			}
			return &ua.ServiceFault{ResponseHeader: header(ua.StatusBadTooManyOperations)}
		}}
		c, err := open(t, s)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 5 {
			var f *channel.Fault
			if _, err := c.Request(t.Context(), read(), nil); !errors.As(err, &f) || !errors.Is(err, ua.StatusBadTooManyOperations) || f.Service != "Read" {
				t.Errorf("%v", err)
			}
			if _, err := c.Request(t.Context(), read(), nil); err != nil {
				t.Errorf("after a fault: %v", err)
			}
		}
	})
}

// A request whose answer does not come ends with its context; the channel lives.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var quiet atomic.Bool
		quiet.Store(true)
		s := &server{answer: func(any) any {
			if quiet.Load() {
				return nil
			}
			return response()
		}}
		c, err := open(t, s)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		begin := time.Now()
		if _, err := c.Request(t.Context(), read(), nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		quiet.Store(false)
		if _, err := c.Request(t.Context(), read(), nil); err != nil {
			t.Error(err)
		}
	})
}

func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(any) any { return response() }}
		c, err := open(t, s)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		time.Sleep(46 * time.Minute) //nolint:forbidigo // virtual time
		if _, err := c.Request(t.Context(), read(), nil); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(s.opened) != 2 || s.opened[1].RequestType != ua.SecurityTokenRequestTypeRenew {
			t.Errorf("%d times opened", len(s.opened))
		}
	})
}

// A renewal that gets no answer ends the channel: somebody makes another.
func TestRenewalWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{mute: true, answer: func(any) any { return response() }}
		c, err := open(t, s)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		begin := time.Now()
		<-c.Done()
		if d := time.Since(begin); d != 45*time.Minute+10*time.Second || !errors.Is(c.Err(), channel.ErrClosed) {
			t.Errorf("ended after %v: %v", d, c.Err())
		}
	})
}

// A chunk that was played again, or is missing, ends the channel.
func TestSequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(any) any { return response() }}
		c, err := open(t, s)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s.skip = 1
		if _, err := c.Request(t.Context(), read(), nil); !errors.Is(err, channel.ErrSecurity) {
			t.Errorf("%v", err)
		}
	})
}

// Whatever a server says of itself in its answer, the channel is what it was made as.
func TestOtherPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := open(t, &server{policy: ua.SecurityPolicyURIBasic256Sha256})
		if !errors.Is(err, channel.ErrSecurity) || !strings.Contains(err.Error(), "Basic256Sha256") {
			t.Errorf("%v", err)
		}
	})
}

// FuzzServer: whatever a server sends, opening or a request ends, with an error or
// not, and nothing panics.
func FuzzServer(f *testing.F) {
	f.Add([]byte("ACKF\x1c\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00OPNF\x0c\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("ERRF\x10\x00\x00\x00\x00\x00\x80\x80\x00\x00\x00\x00"))
	f.Add([]byte("MSGF\x08\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		client, other := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, other) }()
		go func() {
			_, _ = other.Write(b)
			other.Close()
		}()
		c, err := channel.Open(t.Context(), client, channel.Config{Policy: ua.SecurityPolicyURINone, Mode: ua.MessageSecurityModeNone, Timeout: time.Second})
		if err == nil {
			c.Close()
		}
	})
}
