package store

import (
	"encoding/binary"
	"fmt"
)

// The first byte of every database key says what kind of record it is.
const (
	kindInternal byte = 'a' // facts of the store itself
	kindMeta     byte = 'b' // Meta, for callers
	kindVersion  byte = 'c' // object key -> version
	kindObject   byte = 'd' // object key -> version and value
	kindIndex    byte = 'e' // subject and key of the keyed lane -> seq
	kindOutbox   byte = 'f' // seq -> entry
	kindAside    byte = 'g' // object key -> record of a secret that this node's key does not open
	kindPrivate  byte = 'h' // name -> sealed value of SetPrivate
)

// Names of kindInternal records.
const (
	nameFormat  = "format"
	nameSeq     = "outbox-seq"
	nameDropped = "outbox-dropped" // of format 1, in one number
	nameDrop    = "outbox-drop/"   // and the reason
	nameClock   = "outbox-clock"
	nameScrub   = "scrub"
	nameDigest  = "digest"
)

func dbKey(kind byte, name string) []byte {
	return append(append(make([]byte, 0, 1+len(name)), kind), name...)
}

func outboxKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindOutbox}, seq)
}

func indexKey(subject uint64, key string) []byte {
	b := binary.AppendUvarint([]byte{kindIndex}, subject)
	return append(b, key...)
}

// upperBound gives the first key behind all keys that start with prefix, or nil
// when there is none.
func upperBound(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			b := append([]byte(nil), prefix[:i+1]...)
			b[i]++
			return b
		}
	}
	return nil
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// cutString takes a string that appendString wrote off the front of b.
func cutString(b []byte) (s string, rest []byte, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return "", nil, fmt.Errorf("record is cut short: %w", ErrCorrupt)
	}
	b = b[w:]
	return string(b[:n]), b[n:], nil
}

func parseUint(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("number of %d bytes: %w", len(b), ErrCorrupt)
	}
	return binary.BigEndian.Uint64(b), nil
}
