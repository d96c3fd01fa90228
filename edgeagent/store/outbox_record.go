package store

import (
	"encoding/binary"
	"fmt"
)

// Lanes of the outbox, the first byte of an entry's record.
const (
	laneKeyed     byte = 1
	laneSequenced byte = 2 // of format 1: without a time
	laneTimed     byte = 3 // sequenced, with the age clock's seconds
)

// Message is one entry of the outbox.
type Message struct {
	// Seq is its place. It rises for as long as the store lives.
	Seq     uint64
	Subject uint64
	Key     string
	Value   []byte
}

func sequenced(record []byte) bool {
	return len(record) > 0 && (record[0] == laneSequenced || record[0] == laneTimed)
}

// encodeMessage gives the record of m. at counts only in the sequenced lane.
func encodeMessage(lane byte, at uint64, m Message) []byte {
	v := make([]byte, 0, len(m.Key)+len(m.Value)+16)
	v = append(v, lane)
	if lane == laneTimed {
		v = binary.AppendUvarint(v, at)
	}
	v = binary.AppendUvarint(v, m.Subject)
	v = appendString(v, m.Key)
	return append(v, m.Value...)
}

// messageTime gives the age clock's seconds of a sequenced entry, or false when
// it has none.
func messageTime(v []byte) (uint64, bool) {
	if len(v) == 0 || v[0] != laneTimed {
		return 0, false
	}
	at, n := binary.Uvarint(v[1:])
	return at, n > 0
}

// messageSubject gives the subject of an entry, false of what is no record.
func messageSubject(v []byte) (uint64, bool) {
	if len(v) < 2 {
		return 0, false
	}
	rest := v[1:]
	if v[0] == laneTimed {
		_, n := binary.Uvarint(rest)
		if n <= 0 {
			return 0, false
		}
		rest = rest[n:]
	}
	subject, n := binary.Uvarint(rest)
	return subject, n > 0
}

func decodeMessage(k, v []byte) (Message, error) {
	if len(k) != 9 || len(v) < 2 || v[0] < laneKeyed || v[0] > laneTimed {
		return Message{}, fmt.Errorf("outbox entry %x: %w", k, ErrCorrupt)
	}
	m := Message{Seq: binary.BigEndian.Uint64(k[1:])}
	rest := v[1:]
	if v[0] == laneTimed {
		_, n := binary.Uvarint(rest)
		if n <= 0 {
			return m, fmt.Errorf("outbox entry %d: %w", m.Seq, ErrCorrupt)
		}
		rest = rest[n:]
	}
	subject, n := binary.Uvarint(rest)
	if n <= 0 {
		return m, fmt.Errorf("outbox entry %d: %w", m.Seq, ErrCorrupt)
	}
	key, value, err := cutString(rest[n:])
	if err != nil {
		return m, fmt.Errorf("outbox entry %d: %w", m.Seq, err)
	}
	m.Subject, m.Key, m.Value = subject, key, append([]byte(nil), value...)
	return m, nil
}
