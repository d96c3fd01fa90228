package dictionary

import (
	_ "embed"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Encodings of a value.
const (
	// Plain is the value itself.
	Plain uint64 = 0
	// Zstd1 is zstd (RFC 8878) with dictionary 1.
	Zstd1 uint64 = 1
)

const (
	// ID is the number of the dictionary, which each compressed value names.
	ID = 1
	// MaxDecoded bounds what comes out of a Decoder: the bound of a frame.
	MaxDecoded = 4 << 20
	// maxWindow is how far back a compressed value may refer.
	maxWindow = 512 << 10
	// minSize is where compression begins to pay: below it nothing but a header
	// comes of it.
	minSize = 64
	// maxUnsaid bounds a value that does not say its length: the format has a field
	// for it from 256 bytes on.
	maxUnsaid = 256
)

// Errors of a Decoder, besides those of zstd.
var (
	// ErrEncoding says that a value is in an encoding that this build does not know.
	ErrEncoding = errors.New("encoding of value is not known")
	// ErrTooLarge says that a value is beyond MaxDecoded.
	ErrTooLarge = errors.New("compressed value is too large")
)

//go:embed v1.dict
var v1 []byte

// Encoder compresses. It may be used concurrently.
type Encoder struct{ z *zstd.Encoder }

// NewEncoder makes an Encoder; one serves a process.
func NewEncoder() (*Encoder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderDict(v1), zstd.WithWindowSize(maxWindow), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderConcurrency(2), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("make encoder: %w", err)
	}
	return &Encoder{z: z}, nil
}

// Encode gives the shorter of value and its compressed form.
func (e *Encoder) Encode(value []byte) (encoding uint64, encoded []byte) {
	if len(value) < minSize {
		return Plain, value
	}
	if z := e.z.EncodeAll(value, nil); len(z) < len(value) {
		return Zstd1, z
	}
	return Plain, value
}

// Decoder undoes it. It may be used concurrently, but has memory for one at a time.
type Decoder struct{ z *zstd.Decoder }

// NewDecoder makes a Decoder.
func NewDecoder() (*Decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderDicts(v1), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(MaxDecoded), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("make decoder: %w", err)
	}
	return &Decoder{z: z}, nil
}

// Decode gives the value, in memory of its own.
func (d *Decoder) Decode(encoding uint64, encoded []byte) ([]byte, error) {
	switch encoding {
	case Plain:
		return append([]byte(nil), encoded...), nil
	case Zstd1:
		// It must say how long it is, so that memory is taken once and no more of it
		// than is said.
		var h zstd.Header
		if err := h.Decode(encoded); err != nil {
			return nil, fmt.Errorf("decompress value: %w", err)
		}
		size := h.FrameContentSize
		if !h.HasFCS {
			size = maxUnsaid
		}
		if size > MaxDecoded {
			return nil, fmt.Errorf("decompress value: %w", ErrTooLarge)
		}
		value, err := d.z.DecodeAll(encoded, make([]byte, 0, size))
		if err != nil {
			return nil, fmt.Errorf("decompress value: %w", err)
		}
		return value, nil
	}
	return nil, fmt.Errorf("encoding %d: %w", encoding, ErrEncoding)
}
