package channel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
)

// Channel is open from Open until Close or a failure.
type Channel struct {
	cfg    Config
	conn   net.Conn
	limits limits
	asym   *uapolicy.EncryptionAlgorithm

	done   chan struct{} // closed when failed or closed
	ended  chan struct{} // closed when the goroutines have ended
	serial chan struct{} // capacity 1: who holds it writes

	mu       sync.Mutex // guards the following fields
	err      error
	id       uint32
	tokens   []*token // the newest last, at most three
	sending  *token
	sequence uint32 // the last sent; written under serial
	request  uint32
	pending  map[uint32]chan answer
	renewal  *time.Timer
}

type answer struct {
	service ua.Response
	err     error
}

// Open agrees on limits and keys over conn, which the channel owns from now on. It
// returns when the channel can be used; ctx bounds only that.
func Open(ctx context.Context, conn net.Conn, cfg Config) (*Channel, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c := &Channel{
		// A session's old requests may be answered on its new channel: their numbers
		// must not be ours.
		request: rand.Uint32() >> 1,
		cfg:     cfg, conn: conn, pending: map[uint32]chan answer{},
		done: make(chan struct{}), ended: make(chan struct{}), serial: make(chan struct{}, 1),
	}
	if c.asym, err = asymmetric(cfg); err != nil {
		_ = conn.Close()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if c.limits, err = hello(conn, cfg.URL, cfg.MaxMessage); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("hello: %w", first(context.Cause(ctx), err))
	}
	go func() {
		defer close(c.ended)
		c.fail(c.receive())
		_ = conn.Close()
	}()
	if err := c.renew(ctx, ua.SecurityTokenRequestTypeIssue); err != nil {
		c.fail(err)
		_ = conn.Close()
		<-c.ended
		return nil, fmt.Errorf("open secure channel: %w", first(context.Cause(ctx), err))
	}
	return c, nil
}

// first is the context's error, if it was that.
func first(cause, err error) error {
	if cause != nil {
		return fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// Done closes when the channel has failed or was closed.
func (c *Channel) Done() <-chan struct{} { return c.done }

// Err says why it ended; nil while it lives.
func (c *Channel) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Config gives what the channel was opened with.
func (c *Channel) Config() Config { return c.cfg }

// Close ends the channel; a server that still listens is told.
func (c *Channel) Close() {
	select {
	case <-c.done:
	default:
		_ = c.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // a full pipe is not waited for
		_, _ = c.send(&ua.CloseSecureChannelRequest{RequestHeader: &ua.RequestHeader{
			AuthenticationToken: ua.NewTwoByteNodeID(0), Timestamp: time.Now(), AdditionalHeader: ua.NewExtensionObject(nil),
		}}, nil, time.Now().Add(time.Second), false)
	}
	c.fail(net.ErrClosed)
	_ = c.conn.Close()
	<-c.ended
}

// fail ends the channel with its first reason.
func (c *Channel) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = fmt.Errorf("%w: %w", ErrClosed, err)
	for id, waiter := range c.pending {
		waiter <- answer{err: c.err}
		delete(c.pending, id)
	}
	if c.renewal != nil {
		c.renewal.Stop()
	}
	close(c.done)
}

// Request sends a request and waits for its answer. authentication is the
// session's token, nil for none. A refusal is a *Fault. When ctx ends, the answer
// is dropped; the channel lives on.
func (c *Channel) Request(ctx context.Context, req ua.Request, authentication *ua.NodeID) (ua.Response, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		var cancel context.CancelFunc
		deadline = time.Now().Add(c.cfg.Timeout)
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	if authentication == nil {
		authentication = ua.NewTwoByteNodeID(0)
	}
	req.SetHeader(&ua.RequestHeader{
		AuthenticationToken: authentication, Timestamp: time.Now(),
		TimeoutHint:      uint32(min(time.Until(deadline).Milliseconds(), 1<<31)),
		AdditionalHeader: ua.NewExtensionObject(nil),
	})
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", Name(req), err)
	}
	id, err := c.send(req, ctx.Done(), deadline, true)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Name(req), err)
	}
	return c.wait(ctx, req, id)
}

func (c *Channel) wait(ctx context.Context, req ua.Request, id pendingID) (ua.Response, error) {
	select {
	case a := <-id.answer:
		if a.err != nil {
			return nil, fmt.Errorf("%s: %w", Name(req), a.err)
		}
		if s := a.service.Header().ServiceResult; s&0x80000000 != 0 {
			return nil, &Fault{Name(req), s}
		}
		return a.service, nil
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.pending, id.number)
		c.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", Name(req), context.Cause(ctx))
	}
}

// Name is the service's name, as "Read".
func Name(req ua.Request) string {
	return strings.TrimSuffix(reflect.TypeOf(req).Elem().Name(), "Request")
}

// MaxNodes says how many nodes of about so many bytes a request may name.
func (c *Channel) MaxNodes(each int) int {
	n := uint32(1 << 20)
	if c.limits.message > 0 {
		n = min(n, c.limits.message)
	}
	if c.limits.chunks > 0 {
		n = min(n, c.limits.chunks*c.limits.send)
	}
	return max(1, int(n)/each)
}

// errTooManyPending: somebody asks faster than the server answers.
var errTooManyPending = errors.New("too many requests wait for answers")
