package logs

import (
	"bytes"
	"errors"
	"time"
)

// Stream says which of a container's outputs a record came from, or which of
// them a reader wants.
type Stream int

// The streams. StreamAll is only for readers.
const (
	StreamStdout Stream = iota
	StreamStderr
	StreamAll
)

// maxHeader bounds what stands before a record's content. A time takes 35 bytes
// at most, the stream 6; the rest is for tags that a later runtime may add.
const maxHeader = 256

var (
	errShortHeader = errors.New("record is cut short")
	errBadHeader   = errors.New("record is malformed")
)

// header is what stands before a record's content.
type header struct {
	time   time.Time
	stream Stream
	// partial says that the line goes on in the stream's next record.
	partial bool
}

// parseHeader reads the header at the start of b and tells its length. It
// returns errShortHeader when more bytes could complete it.
func parseHeader(b []byte) (header, int, error) {
	var fields [3][]byte
	n := 0
	for i := range fields {
		rest := b[n:min(len(b), maxHeader)]
		end := bytes.IndexByte(rest, ' ')
		if nl := bytes.IndexByte(rest, '\n'); nl >= 0 && (end < 0 || nl < end) {
			return header{}, 0, errBadHeader
		}
		if end < 0 {
			if len(b) >= maxHeader {
				return header{}, 0, errBadHeader
			}
			return header{}, 0, errShortHeader
		}
		fields[i] = rest[:end]
		n += end + 1
	}
	var h header
	if err := h.time.UnmarshalText(fields[0]); err != nil {
		return header{}, 0, errBadHeader
	}
	switch string(fields[1]) {
	case "stdout":
		h.stream = StreamStdout
	case "stderr":
		h.stream = StreamStderr
	default:
		return header{}, 0, errBadHeader
	}
	// The first tag is P or F; others may follow it after colons.
	tag, _, _ := bytes.Cut(fields[2], []byte{':'})
	h.partial = string(tag) == "P"
	return h, n, nil
}

// sink takes a log apart: for each record begin, content in any number of
// pieces, and end when the record's newline was seen.
type sink interface {
	begin(h header) error
	content(b []byte) error
	end() error
}

// parser turns a file's bytes, in whatever pieces they come, into calls of a
// sink. Its zero value is ready.
type parser struct {
	state parserState
	head  []byte
}

type parserState int

const (
	inHeader parserState = iota
	inContent
	inMalformed
)

// feed takes the next bytes of the file.
func (p *parser) feed(b []byte, s sink) error {
	for len(b) > 0 {
		var err error
		switch p.state {
		case inHeader:
			b, err = p.feedHeader(b, s)
		case inContent:
			b, err = p.feedContent(b, s)
		case inMalformed:
			b = p.skip(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reset forgets an unfinished record: the next byte starts one.
func (p *parser) reset() {
	p.state = inHeader
	p.head = p.head[:0]
}

func (p *parser) feedHeader(b []byte, s sink) ([]byte, error) {
	// Most headers lie whole in one piece; only the others are copied.
	whole := b
	if len(p.head) > 0 {
		whole = append(p.head, b[:min(len(b), maxHeader-len(p.head))]...)
	}
	h, n, err := parseHeader(whole)
	if errors.Is(err, errShortHeader) {
		if len(p.head) > 0 {
			p.head = whole
		} else {
			p.head = append(p.head, b...)
		}
		return nil, nil
	}
	held := len(p.head)
	p.head = p.head[:0]
	if err == nil {
		p.state = inContent
		return b[n-held:], s.begin(h)
	}
	p.state = inMalformed
	return b, nil // a malformed record is left out and ends nothing
}

func (p *parser) feedContent(b []byte, s sink) ([]byte, error) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return nil, s.content(b)
	}
	p.state = inHeader
	if end > 0 {
		if err := s.content(b[:end]); err != nil {
			return nil, err
		}
	}
	return b[end+1:], s.end()
}

func (p *parser) skip(b []byte) []byte {
	_, rest, ended := bytes.Cut(b, []byte{'\n'})
	if ended {
		p.state = inHeader
	}
	return rest
}
