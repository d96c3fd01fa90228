package bus

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/devices/modbus/frame"
)

// Conn is what a bus needs of a connection: a net.Conn and an open tty have it.
type Conn interface {
	io.ReadWriteCloser
	SetWriteDeadline(t time.Time) error
}

// Config says how to reach a bus.
type Config struct {
	// Dial connects. It must return when ctx ends.
	Dial func(ctx context.Context) (Conn, error)
	// RTU frames with CRC instead of MBAP.
	RTU bool
	// Line is the speed of a serial line; the zero value is a TCP connection.
	Line frame.Line
	// Timeout is how long a unit may take to answer; 0 means 1 s. The time on a serial
	// line comes on top.
	Timeout time.Duration
	// Pipeline is how many requests may be on their way at once over MBAP; 0 means that
	// the bus finds out what the peer can. Over RTU it is always 1.
	Pipeline int
	// Log may be nil.
	Log *slog.Logger
}

const (
	defaultTimeout = time.Second
	dialTimeout    = 5 * time.Second
	firstBackoff   = 100 * time.Millisecond
	maxBackoff     = 10 * time.Second
	// lasting is how long a connection must have held for the next dial to come at once.
	lasting = 5 * time.Second
	// maxInbox bounds the calls that the owner has not looked at.
	maxInbox = 8192
	// broadcast is how long units may take to do what all were told (2.4.1 of the serial
	// line specification: 100 to 200 ms).
	broadcast = 100 * time.Millisecond
)

// Bus is a serial line or a connection. Run must run for calls to succeed.
type Bus struct {
	cfg   Config
	bell  chan struct{} // capacity 1: inbox has changed
	count counters
	tried chan struct{} // closed when the first attempt to connect has ended

	mu    sync.Mutex // guards the following fields
	inbox []*call
	down  error // why calls fail at once; nil while connected

	// The rest belongs to the goroutine of Run.
	units  map[byte]*unit
	order  []*unit // of units, for taking turns
	turn   [priorities]int
	window window
}

// New makes a bus. It does no I/O.
func New(cfg Config) (*Bus, error) {
	if cfg.Dial == nil {
		return nil, errors.New("bus: Config.Dial is missing")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Bus{
		cfg:    cfg,
		bell:   make(chan struct{}, 1),
		tried:  make(chan struct{}),
		down:   &notConnected{errors.New("no attempt yet")},
		units:  map[byte]*unit{},
		window: newWindow(cfg),
	}, nil
}

// Run keeps the bus connected and serves calls until ctx ends.
func (b *Bus) Run(ctx context.Context) error {
	backoff := time.Duration(0)
	first := sync.OnceFunc(func() { close(b.tried) })
	for {
		conn, err := b.dial(ctx)
		if err == nil {
			begun := time.Now()
			b.cfg.Log.Info("bus connected")
			b.setDown(nil)
			first()
			err = b.serve(ctx, conn)
			if time.Since(begun) >= lasting {
				backoff = 0
			}
			b.count.drops.Add(1)
		}
		b.setDown(&notConnected{err})
		first()
		b.fail(&notConnected{err})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.cfg.Log.Info("bus not connected", "error", err, "retry_in", backoff)
		if !pause(ctx, jitter(backoff)) {
			b.fail(&notConnected{ctx.Err()})
			return ctx.Err()
		}
		backoff = min(max(firstBackoff, 2*backoff), maxBackoff)
	}
}

// Tried is closed when the first attempt to connect has ended, one way or the other.
func (b *Bus) Tried() <-chan struct{} { return b.tried }

// Err returns why the bus is not connected, nil if it is.
func (b *Bus) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.down
}

func (b *Bus) dial(ctx context.Context) (Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return b.cfg.Dial(ctx)
}

// setDown makes calls fail at once, or not.
func (b *Bus) setDown(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = err
}

// take returns the calls that have come.
func (b *Bus) take() []*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	in := b.inbox
	b.inbox = nil
	return in
}

// fail ends all calls that wait.
func (b *Bus) fail(err error) {
	for _, c := range b.take() {
		c.Done(nil, 0, err)
	}
	for _, u := range b.order {
		for p := range u.queue {
			for _, c := range u.queue[p] {
				c.Done(nil, 0, err)
			}
			u.queue[p] = nil
		}
		u.inFlight = 0
		u.forgive()
	}
}

// Stats are counts since New.
type Stats struct {
	Requests, Answers, Exceptions uint64
	Timeouts                      uint64
	Late                          uint64 // answers to requests that were given up
	Damaged                       uint64 // answers that broke off or broke the protocol
	Garbage                       uint64 // bytes that belonged to no answer
	Drops                         uint64 // connections that ended
}

type counters struct {
	requests, answers, exceptions, timeouts, late, damaged, garbage, drops atomic.Uint64
}

// Stats returns the counts.
func (b *Bus) Stats() Stats {
	return Stats{
		Requests: b.count.requests.Load(), Answers: b.count.answers.Load(), Exceptions: b.count.exceptions.Load(),
		Timeouts: b.count.timeouts.Load(), Late: b.count.late.Load(), Damaged: b.count.damaged.Load(),
		Garbage: b.count.garbage.Load(), Drops: b.count.drops.Load(),
	}
}

// jitter spreads d over its half to itself and a half.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + rand.N(d)
}

// pause waits, and reports whether ctx still holds.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
