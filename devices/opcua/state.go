package opcua

import (
	"encoding/binary"
	"errors"
	"time"
)

// state is what must outlive the process, stored in one write with the samples that
// it speaks of.
type state struct {
	hash   uint32 // of the settings that the subscription was made with
	start  int64  // when the server started, which made the subscription's number
	id     uint32 // of the subscription, 0 for none
	last   uint32 // the message stored last
	skip   uint32 // values of the next message that are stored, too
	refuse []uint32
	times  map[uint32]itemTime
}

type itemTime struct {
	last   time.Time
	resync bool
}

const (
	stateMagic = "skerry opcua 1\n"
	tick       = 100 * time.Nanosecond // of OPC UA's times
)

var errState = errors.New("state of another version, or damaged")

// encode: times are told as distances from the newest, most of which are small.
func (s state) encode() []byte {
	b := []byte(stateMagic)
	for _, n := range []uint32{s.hash, s.id, s.last, s.skip} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(s.start))
	b = binary.AppendUvarint(b, uint64(len(s.refuse)))
	for _, h := range s.refuse {
		b = binary.AppendUvarint(b, uint64(h))
	}
	var newest int64
	for _, t := range s.times {
		newest = max(newest, t.last.UnixNano()/int64(tick))
	}
	b = binary.AppendVarint(b, newest)
	for key, t := range s.times {
		b = binary.LittleEndian.AppendUint32(b, key)
		age := uint64(newest-t.last.UnixNano()/int64(tick)) << 1
		if t.resync {
			age |= 1
		}
		b = binary.AppendUvarint(b, age)
	}
	return b
}

// decodeState reads what encode wrote.
func decodeState(b []byte) (state, error) {
	s := state{times: map[uint32]itemTime{}}
	if len(b) < len(stateMagic)+24 || string(b[:len(stateMagic)]) != stateMagic {
		return state{}, errState
	}
	b = b[len(stateMagic):]
	for i, to := range []*uint32{&s.hash, &s.id, &s.last, &s.skip} {
		*to = binary.LittleEndian.Uint32(b[4*i:])
	}
	s.start = int64(binary.LittleEndian.Uint64(b[16:]))
	b = b[24:]
	bad := false
	unsigned := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			bad = true
			return 0
		}
		b = b[n:]
		return v
	}
	for range min(unsigned(), uint64(len(b))) {
		s.refuse = append(s.refuse, uint32(unsigned()))
	}
	newest, n := binary.Varint(b)
	if n <= 0 || bad {
		return state{}, errState
	}
	b = b[n:]
	for len(b) > 0 {
		if len(b) < 5 {
			return state{}, errState
		}
		key := binary.LittleEndian.Uint32(b)
		b = b[4:]
		age := unsigned()
		if bad {
			return state{}, errState
		}
		s.times[key] = itemTime{time.Unix(0, (newest-int64(age>>1))*int64(tick)).UTC(), age&1 == 1}
	}
	return s, nil
}
