package channel

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/codec"
)

// pendingID names a request that waits for its answer.
type pendingID struct {
	number uint32
	answer chan answer
}

// send writes a request in as many chunks as it takes. stop ends the wait for
// others that write; a request half written is finished or the channel fails.
func (c *Channel) send(req ua.Request, stop <-chan struct{}, deadline time.Time, answered bool) (pendingID, error) {
	body, err := codec.Encode(req)
	if err != nil {
		return pendingID{}, err
	}
	if m := c.limits.message; m > 0 && uint64(len(body)) > uint64(m) {
		return pendingID{}, fmt.Errorf("%w: %d bytes, the server takes %d", ErrTooLarge, len(body), m)
	}
	select {
	case c.serial <- struct{}{}:
		defer func() { <-c.serial }()
	case <-stop:
		return pendingID{}, fmt.Errorf("not sent: %w", ua.StatusBadTimeout)
	case <-c.done:
		return pendingID{}, c.Err()
	}
	id, err := c.register(answered)
	if err != nil {
		return id, err
	}
	_, opening := req.(*ua.OpenSecureChannelRequest)
	_, closing := req.(*ua.CloseSecureChannelRequest)
	switch {
	case opening:
		err = c.writeOpening(body, id.number, deadline)
	case closing:
		err = c.writeChunks("CLO", body, id.number, deadline)
	default:
		err = c.writeChunks("MSG", body, id.number, deadline)
	}
	if err != nil {
		c.mu.Lock()
		delete(c.pending, id.number)
		c.mu.Unlock()
	}
	return id, err
}

func (c *Channel) register(answered bool) (pendingID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return pendingID{}, c.err
	}
	c.request++
	if c.request == 0 {
		c.request = 1
	}
	id := pendingID{number: c.request, answer: make(chan answer, 1)}
	if !answered {
		return id, nil
	}
	if len(c.pending) >= maxPending {
		return id, errTooManyPending
	}
	c.pending[id.number] = id.answer
	return id, nil
}

// next is the number of the next chunk (Part 6, 6.7.2.4). The caller holds serial.
func (c *Channel) next() uint32 {
	if c.sequence >= math.MaxUint32-1024 {
		c.sequence = 0
	}
	c.sequence++
	return c.sequence
}

func (c *Channel) writeOpening(body []byte, request uint32, deadline time.Time) error {
	secure := c.cfg.Policy != ua.SecurityPolicyURINone
	c.mu.Lock()
	id := c.id
	c.mu.Unlock()
	b := ua.NewBuffer(nil)
	b.Write([]byte("OPNF\x00\x00\x00\x00"))
	b.WriteUint32(id)
	b.WriteString(c.cfg.Policy)
	if secure {
		b.WriteByteString(c.cfg.Certificate)
		b.WriteByteString(thumbprint(c.cfg.Server))
	} else {
		b.WriteByteString(nil)
		b.WriteByteString(nil)
	}
	clear := b.Len()
	b.WriteUint32(c.next())
	b.WriteUint32(request)
	b.Write(body)
	chunk, err := protection{c.asym, secure, secure}.seal(b.Bytes(), clear)
	if err != nil {
		return err
	}
	return c.write(chunk, deadline)
}

const messageHeader = 16 // frame, channel, token

func (c *Channel) writeChunks(kind string, body []byte, request uint32, deadline time.Time) error {
	c.mu.Lock()
	t, id := c.sending, c.id
	c.mu.Unlock()
	if t == nil {
		return fmt.Errorf("%w: not open yet", ErrClosed)
	}
	p := protect(t.algo, c.cfg.Mode)
	most := p.maxBody(int(c.limits.send), messageHeader)
	count := (len(body) + most - 1) / most
	if m := c.limits.chunks; m > 0 && uint64(count) > uint64(m) {
		return fmt.Errorf("%w: %d chunks, the server takes %d", ErrTooLarge, count, m)
	}
	for len(body) > 0 {
		part := body[:min(most, len(body))]
		body = body[len(part):]
		b := make([]byte, messageHeader+sequenceHeader, messageHeader+sequenceHeader+len(part)+128)
		copy(b, kind)
		if b[3] = 'F'; len(body) > 0 {
			b[3] = 'C'
		}
		binary.LittleEndian.PutUint32(b[8:], id)
		binary.LittleEndian.PutUint32(b[12:], t.id)
		binary.LittleEndian.PutUint32(b[16:], c.next())
		binary.LittleEndian.PutUint32(b[20:], request)
		chunk, err := p.seal(append(b, part...), messageHeader)
		if err != nil {
			return err
		}
		if err := c.write(chunk, deadline); err != nil {
			return err
		}
	}
	return nil
}

// write sends a chunk whole. One that is not leaves a stream that cannot be
// continued.
func (c *Channel) write(chunk []byte, deadline time.Time) error {
	_ = c.conn.SetWriteDeadline(deadline) // fails only on a closed connection, as Write does
	if _, err := c.conn.Write(chunk); err != nil {
		c.fail(fmt.Errorf("write: %w", err))
		_ = c.conn.Close()
		return c.Err()
	}
	return nil
}
