package channel

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
)

const sequenceHeader = 8

// protection is how chunks are secured: symmetric ones by the channel's mode,
// asymmetric ones always both ways unless the policy is None (Part 6, 6.7.4).
type protection struct {
	algo          *uapolicy.EncryptionAlgorithm
	sign, encrypt bool
}

func protect(algo *uapolicy.EncryptionAlgorithm, mode ua.MessageSecurityMode) protection {
	return protection{
		algo:    algo,
		sign:    mode == ua.MessageSecurityModeSign || mode == ua.MessageSecurityModeSignAndEncrypt,
		encrypt: mode == ua.MessageSecurityModeSignAndEncrypt,
	}
}

// extra reports whether the length of the padding takes two bytes (Part 6,
// 6.7.2.5): for keys beyond 2048 bits. key is the size of the encrypting key.
func extra(key int) bool { return key > 256 }

// maxBody is how many bytes of a service fit in a chunk of size bytes whose clear
// part is clear bytes long.
func (p protection) maxBody(size, clear int) int {
	n := size - clear
	if p.encrypt {
		n = n / p.algo.BlockSize() * p.algo.PlaintextBlockSize()
		n-- // PaddingSize
		if extra(p.algo.BlockSize()) {
			n--
		}
	}
	if p.sign {
		n -= p.algo.SignatureLength()
	}
	return n - sequenceHeader
}

// seal protects a chunk whose first clear bytes stay as they are, and fills in its
// size.
func (p protection) seal(b []byte, clear int) ([]byte, error) {
	if !p.sign {
		binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
		return b, nil
	}
	signature := p.algo.SignatureLength()
	size := len(b) + signature
	if p.encrypt {
		plain := p.algo.PlaintextBlockSize()
		tail := 1
		if extra(p.algo.BlockSize()) {
			tail = 2
		}
		pad := (plain - (len(b)-clear+tail+signature)%plain) % plain
		b = append(b, bytes.Repeat([]byte{byte(pad)}, pad+1)...)
		if tail == 2 {
			b = append(b, byte(pad>>8))
		}
		size = clear + (len(b)-clear+signature)/plain*p.algo.BlockSize()
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(size))
	s, err := p.algo.Signature(b)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	b = append(b, s...)
	if !p.encrypt {
		return b, nil
	}
	secret, err := p.algo.Encrypt(b[clear:])
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return append(b[:clear:clear], secret...), nil
}

// open gives what seal got, after its clear part. It may change b. ownKey is the
// size of our RSA key for asymmetric chunks, 0 for symmetric ones.
func (p protection) open(b []byte, clear, ownKey int) ([]byte, error) {
	if !p.sign {
		return b[clear:], nil
	}
	if p.encrypt {
		plain, err := p.algo.Decrypt(b[clear:])
		if err != nil {
			return nil, fmt.Errorf("%w: decrypt: %w", ErrSecurity, err)
		}
		b = append(b[:clear:clear], plain...)
	}
	end := len(b) - p.algo.RemoteSignatureLength()
	if end < clear {
		return nil, fmt.Errorf("%w: chunk of %d bytes has no room for a signature", ErrSecurity, len(b))
	}
	if err := p.algo.VerifySignature(b[:end], b[end:]); err != nil {
		return nil, fmt.Errorf("%w: signature: %w", ErrSecurity, err)
	}
	if p.encrypt {
		tail := 1
		if extra(ownKey) {
			tail = 2
		}
		if end-tail < clear {
			return nil, fmt.Errorf("%w: chunk without padding", ErrSecurity)
		}
		pad := int(b[end-tail])
		if tail == 2 {
			pad |= int(b[end-1]) << 8
		}
		end -= pad + tail
		if end < clear {
			return nil, fmt.Errorf("%w: padding of %d bytes", ErrSecurity, pad)
		}
	}
	return b[clear:end], nil
}
