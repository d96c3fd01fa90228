package kubeletfront

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
)

const (
	// maxPairs bounds the connections of one caller that have one of their two SPDY
	// streams and wait for the other.
	maxPairs = 256
	// sweepEvery is how often connections are looked for that the caller has reset.
	sweepEvery = time.Second
)

// connections are those of one caller.
type connections struct {
	*forwarding
	ctx    context.Context //nolint:containedctx // of the caller, for streams that come by a callback
	cancel context.CancelFunc
	conn   httpstream.Connection // of SPDY; may be read once ready is closed
	ready  chan struct{}

	running sync.WaitGroup

	mu    sync.Mutex // guards the following fields
	over  bool       // no more are begun
	pairs map[string]*pair
	open  map[*connection]struct{}
}

// pair is the two SPDY streams of one connection: its bytes, and why it failed.
type pair struct {
	data, errs               httpstream.Stream
	dataReplied, errsReplied <-chan struct{} // closed when the caller knows that they are open
	late                     *time.Timer
}

func (f *forwarding) newConnections(ctx context.Context) *connections {
	ctx, cancel := context.WithCancel(ctx)
	return &connections{
		forwarding: f, ctx: ctx, cancel: cancel, ready: make(chan struct{}),
		pairs: map[string]*pair{}, open: map[*connection]struct{}{},
	}
}

// serve works until the caller's connection ends.
func (c *connections) serve(conn httpstream.Connection) {
	conn.SetIdleTimeout(idleTimeout)
	c.conn = conn
	close(c.ready)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case <-conn.CloseChan():
			over = true
		case <-c.ctx.Done():
			over = true
		case <-tick.C:
			c.sweep()
		}
	}
	_ = conn.Close()
	c.wait()
}

// sweep ends the connections that the caller has reset. To those who read and
// write its streams a reset looks like the end of its input, and no error.
func (c *connections) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for x := range c.open {
		x.endIfReset()
	}
}

// wait ends what is left and returns after the last.
func (c *connections) wait() {
	c.cancel()
	c.mu.Lock()
	c.over = true
	for _, p := range c.pairs {
		p.late.Stop()
	}
	clear(c.pairs)
	c.mu.Unlock()
	c.running.Wait()
}

// accept takes a stream of the caller's; an error resets it. It must not wait.
func (c *connections) accept(s httpstream.Stream, replied <-chan struct{}) error {
	port, err := strconv.ParseUint(s.Headers().Get(portforward.PortHeader), 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("stream header %s is %q, want a port", portforward.PortHeader, s.Headers().Get(portforward.PortHeader))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return errCallerGone
	}
	id := requestID(s)
	p := c.pairs[id]
	if p == nil {
		if len(c.pairs) >= maxPairs {
			return fmt.Errorf("%d connections wait for their other stream, which is the most", maxPairs)
		}
		p = &pair{}
	}
	switch kind := s.Headers().Get(portforward.StreamType); {
	case kind == portforward.StreamTypeData && p.data == nil:
		p.data, p.dataReplied = s, replied
	case kind == portforward.StreamTypeError && p.errs == nil:
		p.errs, p.errsReplied = s, replied
	default:
		return fmt.Errorf("stream type %q is not known, or came twice", kind)
	}
	if p.data == nil || p.errs == nil {
		p.late = time.AfterFunc(creationTimeout, func() { c.giveUp(id, p) })
		c.pairs[id] = p
		return nil
	}
	p.late.Stop()
	delete(c.pairs, id)
	c.running.Go(func() { c.run(p, uint16(port)) })
	return nil
}

// requestID tells which connection a stream belongs to. Callers of before there
// was a header open the error stream and then the data stream.
func requestID(s httpstream.Stream) string {
	if id := s.Headers().Get(portforward.PortForwardRequestIDHeader); id != "" {
		return id
	}
	n := s.Identifier()
	if s.Headers().Get(portforward.StreamType) == portforward.StreamTypeData {
		n -= 2
	}
	return "stream " + strconv.FormatUint(uint64(n), 10)
}

// giveUp ends a pair whose other stream did not come.
func (c *connections) giveUp(id string, p *pair) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pairs[id] != p {
		return
	}
	delete(c.pairs, id)
	<-c.ready
	for _, s := range []httpstream.Stream{p.data, p.errs} {
		if s != nil {
			_ = s.Reset()
			c.conn.RemoveStreams(s)
		}
	}
}

// run carries one connection. Of its streams nothing may be left in conn, which
// may live for days.
func (c *connections) run(p *pair, port uint16) {
	for _, replied := range []<-chan struct{}{c.ready, p.dataReplied, p.errsReplied} {
		select {
		case <-replied:
		case <-c.ctx.Done():
			return
		}
	}
	err := c.forward(port, p.data)
	if err != nil {
		_, _ = fmt.Fprintf(p.errs, "error forwarding port %d to pod %s, uid %s: %v", port, c.a.req.pod, c.a.req.podUID, err)
		_ = p.data.Reset()
	}
	_ = p.data.Close()
	_ = p.errs.Close()
	c.conn.RemoveStreams(p.data, p.errs)
}

// forward carries one connection between stream and a port of the pod. It returns
// when both directions have ended.
func (c *connections) forward(port uint16, stream io.ReadWriteCloser) error {
	c.served.Add(1)
	c.a.ports.add(port)
	x := &connection{c: c, stream: stream}
	c.mu.Lock()
	c.open[x] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, x)
	}()
	err := x.run(port)
	if err == nil || c.ctx.Err() != nil {
		return nil
	}
	req := c.a.req
	c.s.log.Debug("connection not forwarded", "namespace", req.namespace, "pod", req.pod, "port", port, "error", err)
	return err
}
