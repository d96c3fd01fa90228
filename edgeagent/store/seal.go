package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// keySize is that of AES-256.
	keySize = 32
	// keyIDSize is what of a key's fingerprint stands before each sealed value.
	keyIDSize = 8
)

// errOtherKey says that a value was sealed with a key that this node does not
// have now.
var errOtherKey = errors.New("sealed with another key")

// isSecret tells the objects whose values are sealed on the disk.
func isSecret(key string) bool {
	resource, _, ok := strings.Cut(key, "/")
	return ok && (resource == string(wire.ResourceSecrets) || resource == string(wire.ResourceTokens))
}

// secretPrefixes are the beginnings of the keys for which isSecret is true.
func secretPrefixes() []string {
	return []string{string(wire.ResourceSecrets) + "/", string(wire.ResourceTokens) + "/"}
}

// sealer encrypts and authenticates values: AES-256-GCM with a random nonce, of
// which 2^32 may be used with one key; an edge writes some thousand secrets a
// year. Object key and version are authenticated with the value, so that no
// ciphertext can stand in another's place, or an older one in a newer one's.
type sealer struct {
	aead cipher.AEAD
	id   [keyIDSize]byte
}

func newSealer(key []byte) (*sealer, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("key of %d bytes, want %d", len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	s := &sealer{}
	if s.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("skerry store key id"))
	copy(s.id[:], mac.Sum(nil))
	return s, nil
}

// seal appends the sealed value to b.
func (s *sealer) seal(b []byte, key, version string, value []byte) []byte {
	b = append(b, s.id[:]...)
	return s.aead.Seal(b, nil, value, associated(key, version))
}

// unseal gives what seal was given; errOtherKey or ErrCorrupt when it can't.
func (s *sealer) unseal(key, version string, b []byte) ([]byte, error) {
	if len(b) < keyIDSize {
		return nil, fmt.Errorf("sealed value is cut short: %w", ErrCorrupt)
	}
	if [keyIDSize]byte(b) != s.id {
		return nil, errOtherKey
	}
	value, err := s.aead.Open(nil, nil, b[keyIDSize:], associated(key, version))
	if err != nil {
		return nil, fmt.Errorf("sealed value is not what was written: %w", ErrCorrupt)
	}
	return value, nil
}

func associated(key, version string) []byte {
	return appendString(appendString([]byte("skerry object\x00"), key), version)
}
