package reach

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	// smallest is the least that a QUIC server answers, and that QUIC needs.
	smallest = 1200
	// Packets get lost on a bad link, which says nothing about their size.
	firstTries, moreTries = 5, 3

	wait = time.Second
)

// sizes are payloads of UDP that are tried: QUIC's least, an IPv6 path's least, a
// path through a tunnel or two, and an Ethernet's.
func sizes() []int { return []int{smallest, 1232, 1372, 1452} }

// errNoAnswer means that nothing came back.
var errNoAnswer = errors.New("no answer")

// Path is what UDP found out about the way to a proxy.
type Path struct {
	RTT     time.Duration
	Payload int // the largest UDP payload that got through, of those tried
}

// UDP asks the QUIC server at address, HOST:PORT.
func UDP(ctx context.Context, address string) (Path, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", address)
	if err != nil {
		return Path{}, err
	}
	defer conn.Close() //nolint:errcheck // it is a datagram socket
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	dontFragment(conn)
	var path Path
	for _, size := range sizes() {
		tries := moreTries
		if size == smallest {
			tries = firstTries
		}
		rtt, err := ask(ctx, conn, size, tries)
		switch {
		case ctx.Err() != nil:
			return path, ctx.Err()
		case err != nil && path.Payload == 0:
			return path, fmt.Errorf("no answer by UDP from %s (%w)", address, err)
		case err != nil:
			return path, nil
		}
		path.Payload = size
		if path.RTT == 0 || rtt < path.RTT {
			path.RTT = rtt
		}
	}
	return path, nil
}

// sent is a packet and when it went.
type sent struct {
	packet []byte
	at     time.Time
}

// ask sends packets of size until one is answered; an answer may come when more have
// been sent, on a link that takes longer than the wait between them.
func ask(ctx context.Context, conn net.Conn, size, tries int) (time.Duration, error) {
	last := errNoAnswer
	var all []sent
	for range tries {
		now := time.Now()
		all = append(all, sent{packet(size), now})
		if err := conn.SetReadDeadline(now.Add(wait)); err != nil {
			return 0, err
		}
		if ctx.Err() != nil { // after the deadline, which its end sets, too
			return 0, ctx.Err()
		}
		if _, err := conn.Write(all[len(all)-1].packet); err != nil {
			if tooLarge(err) {
				return 0, err
			}
			last = err // such as a port that refused the one before
		}
		rtt, err := answer(conn, all)
		if err == nil {
			return rtt, nil
		}
		// A deadline tells less than what came before it.
		if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
			last = err
		}
	}
	return 0, last
}

// answer reads until one of the packets is answered, or the read fails.
func answer(conn net.Conn, all []sent) (time.Duration, error) {
	buf := make([]byte, smallest)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return 0, err
		}
		for _, s := range all {
			if answers(buf[:n], s.packet) {
				return time.Since(s.at), nil
			}
		}
	}
}

// Where things are in the long header of any QUIC version (RFC 8999): flags, version,
// and the two connection ids, each with its length before it.
const (
	idLength    = 8
	versionAt   = 1
	destLenAt   = 5
	sourceLenAt = destLenAt + 1 + idLength
	headerEnd   = sourceLenAt + 1 + idLength
)

// packet is a long header of a version kept free for this (RFC 9000, 15), padded.
func packet(size int) []byte {
	p := make([]byte, size)
	_, _ = rand.Read(p[:headerEnd]) // never fails, says its documentation
	p[0] |= 0xc0
	copy(p[versionAt:], []byte{0x1a, 0x2a, 0x3a, 0x4a})
	p[destLenAt], p[sourceLenAt] = idLength, idLength
	return p
}

// answers reports whether b is the Version Negotiation packet for p: version zero,
// and p's connection ids the other way round.
func answers(b, p []byte) bool {
	return len(b) > headerEnd && b[0]&0x80 != 0 && bytes.Equal(b[versionAt:destLenAt], []byte{0, 0, 0, 0}) &&
		bytes.Equal(b[destLenAt:sourceLenAt], p[sourceLenAt:headerEnd]) &&
		bytes.Equal(b[sourceLenAt:headerEnd], p[destLenAt:sourceLenAt])
}
