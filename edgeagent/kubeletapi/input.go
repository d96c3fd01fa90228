package kubeletapi

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"
)

const (
	// inputBuffer is how much of a command's input may wait for it. It is there so
	// that frames behind the input - the terminal's size, the end of the input -
	// are met while a command does not read. What comes beyond it waits in the
	// stream: its flow control stops the sender, and those frames wait as well.
	inputBuffer = 256 << 10
	// probeEvery is how often the peer is sounded out while its frames are not read.
	probeEvery = 5 * time.Second
)

// input is a pipe with a bounded buffer: the stream's reader writes, the command
// reads.
type input struct {
	readable, writable chan struct{} // capacity 1: something changed, look again

	mu     sync.Mutex // guards the following fields
	buf    bytes.Buffer
	eof    bool // no more will be written
	closed bool // no more will be read
}

func newInput() *input {
	return &input{readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// write waits until all of b is in the buffer. While it waits, probe is called
// now and then; its error ends the wait. After close, bytes go nowhere.
func (p *input) write(ctx context.Context, b []byte, probe func() error) error {
	var tick <-chan time.Time
	for {
		if b = p.put(b); len(b) == 0 {
			return nil
		}
		if tick == nil {
			t := time.NewTicker(probeEvery)
			defer t.Stop()
			tick = t.C
		}
		select {
		case <-p.writable:
		case <-tick:
			if err := probe(); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// put takes what there is room for and returns the rest.
func (p *input) put(b []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.eof {
		return nil
	}
	n := min(len(b), inputBuffer-p.buf.Len())
	p.buf.Write(b[:n])
	ring(p.readable)
	return b[n:]
}

// end says that the input is complete.
func (p *input) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.eof = true
	ring(p.readable)
}

// close says that no one reads any more, and ends a Read that waits.
func (p *input) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.buf = bytes.Buffer{}
	ring(p.readable)
	ring(p.writable)
}

// Read implements io.Reader, for one goroutine at a time.
func (p *input) Read(b []byte) (int, error) {
	for {
		if n, err := p.take(b); n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		<-p.readable
	}
}

func (p *input) take(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		ring(p.readable) // for a Read that comes later
		return 0, io.ErrClosedPipe
	case p.buf.Len() > 0:
		n, _ := p.buf.Read(b)
		ring(p.writable)
		return n, nil
	case p.eof:
		ring(p.readable)
		return 0, io.EOF
	}
	return 0, nil
}
