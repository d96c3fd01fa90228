package uplink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// dialTimeout bounds one dial. It is longer than the tunnel's own bound, and
// there for a Dial that has none.
const dialTimeout = 30 * time.Second

// Session is what the uplink needs of a *tunnel.Session.
type Session interface {
	Open(ctx context.Context, kind wire.Kind) (*tunnel.Stream, error)
	Accept(ctx context.Context) (*tunnel.Stream, error)
	Check()
	Done() <-chan struct{}
	Err() error
	Close(code wire.Code, text string) error
}

// Incarnation tells one start of the agent from another, see wire.Hello.
type Incarnation [16]byte

// Config is what New needs.
type Config struct {
	// Dial makes a session; incarnation and seq belong into its Hello.
	Dial func(ctx context.Context, incarnation Incarnation, seq uint64) (Session, error)
	// Watch calls changed when the machine's addresses or routes have changed, until
	// ctx ends; see WatchNetwork. nil means that nobody does.
	Watch func(ctx context.Context, changed func()) error
	// Log is for what happens to the session; nil means none.
	Log *slog.Logger
}

// Uplink is the edge's line to the cloud.
type Uplink struct {
	cfg         Config
	incarnation Incarnation
	nudge       chan struct{} // the network changed

	mu        sync.Mutex // guards the following fields
	session   Session    // nil while there is none
	change    chan struct{}
	listeners map[wire.Kind]*listener
	ended     bool // Run has returned
}

// New draws the incarnation. Run does the work.
func New(cfg Config) (*Uplink, error) {
	if cfg.Dial == nil {
		return nil, errors.New("uplink: Dial is missing")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	u := &Uplink{
		cfg:       cfg,
		nudge:     make(chan struct{}, 1),
		change:    make(chan struct{}),
		listeners: make(map[wire.Kind]*listener),
	}
	_, _ = rand.Read(u.incarnation[:]) // never fails
	return u, nil
}

// Run keeps a session until ctx ends, then closes it and all listeners.
func (u *Uplink) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer u.end()
	if u.cfg.Watch != nil {
		wg.Go(func() {
			if err := u.cfg.Watch(ctx, u.networkChanged); err != nil && ctx.Err() == nil {
				u.cfg.Log.Warn("changes of the network go unnoticed", "err", err)
			}
		})
	}
	var b backoff
	for seq := uint64(1); ; seq++ {
		lived, err := u.once(ctx, seq)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait := b.next(lived, err)
		u.report(err, lived, wait, b.failures)
		if !u.pause(ctx, wait, refused(err)) {
			return ctx.Err()
		}
	}
}

// Connected reports whether there is a session now.
func (u *Uplink) Connected() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.session != nil
}

// Changed gives a channel that is closed when Connected next changes. Ask for it
// before Connected, so that nothing is missed.
func (u *Uplink) Changed() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.change
}

// Dial opens a stream to the cloud. It waits for a session until ctx ends.
func (u *Uplink) Dial(ctx context.Context, kind wire.Kind) (net.Conn, error) {
	for {
		u.mu.Lock()
		s, change, ended := u.session, u.change, u.ended
		u.mu.Unlock()
		if ended {
			return nil, fmt.Errorf("dial %s stream: uplink: %w", kind, net.ErrClosed)
		}
		if s != nil {
			st, err := s.Open(ctx, kind)
			if err == nil {
				return st, nil
			}
			if !errors.Is(err, net.ErrClosed) {
				return nil, fmt.Errorf("dial %s stream: %w", kind, err)
			}
			// The session has ended, and Run is about to notice.
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, fmt.Errorf("dial %s stream: no session with the cloud: %w", kind, ctx.Err())
		}
	}
}

// once makes one session and serves it to its end.
func (u *Uplink) once(ctx context.Context, seq uint64) (lived time.Duration, err error) {
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	s, err := u.cfg.Dial(dctx, u.incarnation, seq)
	cancel()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	u.cfg.Log.Info("connected to the cloud", "seq", seq)
	u.publish(s)
	defer u.publish(nil)
	for {
		st, err := s.Accept(ctx)
		if err != nil {
			break
		}
		u.deliver(st)
	}
	// What was written and not delivered is lost here; nothing that matters relies
	// on it, since it is not acknowledged either.
	err = s.Close(wire.CodeGoingAway, "the agent stops")
	return time.Since(start), errors.Join(s.Err(), err)
}

func (u *Uplink) publish(s Session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.session = s
	close(u.change)
	u.change = make(chan struct{})
}

func (u *Uplink) deliver(st *tunnel.Stream) {
	u.mu.Lock()
	l := u.listeners[st.Kind()]
	u.mu.Unlock()
	if l == nil {
		st.Reset(wire.CodeUnsupported)
		return
	}
	l.deliver(st)
}

func (u *Uplink) end() {
	u.mu.Lock()
	u.ended = true
	close(u.change)
	u.change = make(chan struct{})
	listeners := u.listeners
	u.listeners = nil
	u.mu.Unlock()
	for _, l := range listeners {
		l.shut()
	}
}

// pause waits before the next dial, shorter when the network changes. It reports
// whether to go on.
func (u *Uplink) pause(ctx context.Context, wait time.Duration, refused bool) bool {
	nudge := u.nudge
	if refused {
		nudge = nil // another network does not change the cloud's mind
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-nudge:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// networkChanged makes the session prove itself, or ends a pause.
func (u *Uplink) networkChanged() {
	u.mu.Lock()
	s := u.session
	u.mu.Unlock()
	if s != nil {
		s.Check()
		return
	}
	select {
	case u.nudge <- struct{}{}:
	default:
	}
}

// report says what an operator acts on: refusals each time, an unreachable cloud
// once.
func (u *Uplink) report(err error, lived, wait time.Duration, failures int) {
	log := u.cfg.Log.With("err", err, "retry_in", wait.Round(time.Millisecond))
	switch {
	case replaced(err):
		log.Warn("another machine took this edge's place: is its certificate used twice?")
	case refused(err):
		log.Warn("the cloud refuses this edge")
	case lived > 0:
		log.Info("session ended", "lived", lived.Round(time.Millisecond))
	case failures <= 1:
		log.Info("the cloud can't be reached")
	default:
		log.Debug("the cloud can't be reached", "failures", failures)
	}
}
