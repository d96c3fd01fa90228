package channel

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/codec"
)

const maxPartial = 64 // messages of which some chunks are there

// receiver is the state of the goroutine that reads.
type receiver struct {
	c        *Channel
	sequence uint32
	started  bool
	partial  map[uint32][]byte
	bytes    int // in partial
}

// receive reads until the connection ends.
func (c *Channel) receive() error {
	r := receiver{c: c, partial: map[uint32][]byte{}}
	in := bufio.NewReaderSize(c.conn, bufferSize)
	for {
		f, err := readFrame(in, c.limits.receive)
		if errors.Is(err, io.EOF) {
			return errors.New("the server closed the connection")
		}
		if err != nil {
			return err
		}
		if err := r.frame(f); err != nil {
			return err
		}
	}
}

// frame takes one chunk. Its error ends the channel.
func (r *receiver) frame(f frame) error {
	plain, err := r.c.unseal(f)
	if err != nil {
		return err
	}
	if len(plain) < sequenceHeader {
		return fmt.Errorf("chunk of %d bytes", len(plain))
	}
	sequence, request := binary.LittleEndian.Uint32(plain), binary.LittleEndian.Uint32(plain[4:])
	if err := r.ordered(sequence); err != nil {
		return err
	}
	body := plain[sequenceHeader:]
	switch f.chunk() {
	case 'A':
		r.drop(request)
		r.c.deliver(request, nil, aborted(body))
		return nil
	case 'C', 'F':
	default:
		return fmt.Errorf("chunk of kind %q", f.chunk())
	}
	if f.chunk() == 'C' || len(r.partial[request]) > 0 {
		if len(r.partial[request]) == 0 && len(r.partial) >= maxPartial {
			return fmt.Errorf("more than %d messages at once in parts", maxPartial)
		}
		r.bytes += len(body)
		if r.bytes > int(r.c.cfg.MaxMessage) {
			return fmt.Errorf("message larger than %d bytes", r.c.cfg.MaxMessage)
		}
		r.partial[request] = append(r.partial[request], body...)
		if f.chunk() == 'C' {
			return nil
		}
		body = r.partial[request]
		r.drop(request)
	}
	if !r.c.waits(request) {
		return nil // who asked has gone: nothing to decode for
	}
	service, err := codec.Decode(body)
	if err != nil {
		// The message's borders are known: only its own request is lost.
		r.c.deliver(request, nil, err)
		return nil
	}
	response, ok := service.(ua.Response)
	if !ok {
		r.c.deliver(request, nil, fmt.Errorf("%T where an answer was due", service))
		return nil
	}
	r.c.deliver(request, response, nil)
	return nil
}

func (r *receiver) drop(request uint32) {
	r.bytes -= len(r.partial[request])
	delete(r.partial, request)
}

// ordered wants each chunk's number to follow the last (Part 6, 6.7.2.4): one that
// is played again, or missing, ends the channel.
func (r *receiver) ordered(n uint32) error {
	wrapped := r.sequence > 1<<32-1-1024 && n < 1024
	if r.started && n != r.sequence+1 && !wrapped {
		return fmt.Errorf("%w: chunk %d after %d", ErrSecurity, n, r.sequence)
	}
	r.started, r.sequence = true, n
	return nil
}

// aborted reads why the server gave up on an answer (Part 6, 6.7.3).
func aborted(body []byte) error {
	b := ua.NewBuffer(body)
	code, reason := ua.StatusCode(b.ReadUint32()), b.ReadString()
	if b.Error() != nil {
		code = ua.StatusBadDecodingError
	}
	return fmt.Errorf("answer aborted: %w: %.200s", code, reason)
}

func (c *Channel) waits(request uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.pending[request]
	return ok
}

func (c *Channel) deliver(request uint32, service ua.Response, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if waiter, ok := c.pending[request]; ok {
		delete(c.pending, request)
		waiter <- answer{service, err}
	}
}

// unseal checks and decrypts a chunk.
func (c *Channel) unseal(f frame) ([]byte, error) {
	switch f.kind() {
	case "MSG":
		if len(f) < messageHeader {
			return nil, fmt.Errorf("chunk of %d bytes", len(f))
		}
		t := c.token(binary.LittleEndian.Uint32(f[8:]), binary.LittleEndian.Uint32(f[12:]))
		if t == nil {
			return nil, fmt.Errorf("%w: a token that is unknown or over", ErrSecurity)
		}
		return protect(t.algo, c.cfg.Mode).open(f, messageHeader, 0)
	case "OPN":
		return c.unsealOpening(f)
	case "CLO":
		return nil, errors.New("the server closed the channel")
	default:
		return nil, fmt.Errorf("message of type %q", f.kind())
	}
}

// unsealOpening wants the policy and the certificate that the channel was made
// for, whatever the answer names.
func (c *Channel) unsealOpening(f frame) ([]byte, error) {
	if len(f) < 12 {
		return nil, fmt.Errorf("chunk of %d bytes", len(f))
	}
	b := ua.NewBuffer(f[12:])
	policy, certificate, _ := b.ReadString(), b.ReadBytes(), b.ReadBytes()
	if b.Error() != nil {
		return nil, fmt.Errorf("security header: %w", b.Error())
	}
	if policy != c.cfg.Policy {
		return nil, fmt.Errorf("%w: the server answers with policy %q, not %q", ErrSecurity, policy, c.cfg.Policy)
	}
	if policy == ua.SecurityPolicyURINone {
		return f[12+b.Pos():], nil
	}
	leaf, err := firstCertificate(certificate)
	if err != nil || !bytes.Equal(leaf, c.cfg.Server) {
		return nil, fmt.Errorf("%w: the server answers with another certificate than its endpoint has", ErrSecurity)
	}
	return protection{c.asym, true, true}.open(f, 12+b.Pos(), c.cfg.Key.Size())
}

func firstCertificate(der []byte) ([]byte, error) {
	certs, err := x509.ParseCertificates(der)
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate")
	}
	return certs[0].Raw, nil
}

// token gives the keys of a token that still holds.
func (c *Channel) token(channel, id uint32) *token {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.tokens {
		if t.id == id && channel == c.id && time.Now().Before(t.expires) {
			return t
		}
	}
	return nil
}
