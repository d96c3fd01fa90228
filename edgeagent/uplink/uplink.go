package uplink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
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
	Dial(ctx context.Context) error
	Open(ctx context.Context, kind wire.Kind) (*tunnel.Stream, error)
	Accept(ctx context.Context) (*tunnel.Stream, error)
	Check()
	GoingAway() <-chan struct{}
	Leave(ctx context.Context)
	Done() <-chan struct{}
	Err() error
	Close(code wire.Code, text string) error
}

// Incarnation tells one start of the agent from another, see wire.Hello.
type Incarnation [16]byte

// Begin is what a session is told of those before it.
type Begin struct {
	// Incarnation and Seq belong into its Hello.
	Incarnation Incarnation
	Seq         uint64
	// Since is since when the cloud is out of reach.
	Since time.Time
}

// Config is what New needs.
type Config struct {
	// Session prepares a session, see tunnel.New; the uplink dials it.
	Session func(ctx context.Context, b Begin) (Session, error)
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

	wg sync.WaitGroup // what Run started

	mu        sync.Mutex           // guards the following fields
	session   Session              // nil while there is none
	greeting  Session              // is being dialed, or nil
	live      map[Session]struct{} // session, and those that are being left
	searching bool                 // for a session, or for a better one
	change    chan struct{}
	since     time.Time // when session came or went
	lastErr   error     // of the last dial, or of the session's end
	listeners map[wire.Kind]*listener
	over      bool // Run has returned
}

// New draws the incarnation. Run does the work.
func New(cfg Config) (*Uplink, error) {
	if cfg.Session == nil {
		return nil, errors.New("uplink: Session is missing")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	u := &Uplink{
		cfg:       cfg,
		nudge:     make(chan struct{}, 1),
		live:      make(map[Session]struct{}),
		searching: true,
		change:    make(chan struct{}),
		since:     time.Now(),
		listeners: make(map[wire.Kind]*listener),
	}
	_, _ = rand.Read(u.incarnation[:]) // never fails
	return u, nil
}

// Run keeps a session until ctx ends, then closes it and all listeners.
func (u *Uplink) Run(ctx context.Context) error {
	defer u.wg.Wait()
	defer u.end()
	if u.cfg.Watch != nil {
		u.wg.Go(func() {
			if err := u.cfg.Watch(ctx, u.networkChanged); err != nil && ctx.Err() == nil {
				u.cfg.Log.Warn("changes of the network go unnoticed", "err", err)
			}
		})
	}
	b := backoff{since: time.Now()}
	for seq := uint64(1); ; seq++ {
		lived, err := u.once(ctx, Begin{u.incarnation, seq, b.since})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		u.note(err)
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

// Changed gives a channel that is closed when Connected next changes, and when a
// session is being dialed while there is none. Ask for it before Connected, so that
// nothing is missed.
func (u *Uplink) Changed() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.change
}

// Dial opens a stream to the cloud. It waits for a session until ctx ends; one that
// is being dialed will do, so that the stream's first bytes go with the first packets.
func (u *Uplink) Dial(ctx context.Context, kind wire.Kind) (net.Conn, error) {
	for {
		u.mu.Lock()
		s, change, over := u.session, u.change, u.over
		if s == nil {
			s = u.greeting
		}
		u.mu.Unlock()
		if over {
			return nil, fmt.Errorf("dial %s stream: uplink: %w", kind, net.ErrClosed)
		}
		if s != nil {
			st, err := s.Open(ctx, kind)
			if err == nil {
				return st, nil
			}
			if !errors.Is(err, net.ErrClosed) && !errors.Is(err, tunnel.ErrGoingAway) {
				return nil, fmt.Errorf("dial %s stream: %w", kind, err)
			}
			// The session has ended, as Run is about to notice, or there is another.
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, fmt.Errorf("dial %s stream: no session with the cloud: %w", kind, ctx.Err())
		}
	}
}

// errGoingAway is why once returns while its session lives on.
var errGoingAway = errors.New("the proxy goes away")

// once makes one session and serves it to its end, or until the cloud wants to be
// rid of it: then it lives on beside the next one.
func (u *Uplink) once(ctx context.Context, b Begin) (lived time.Duration, err error) {
	s, err := u.cfg.Session(ctx, b)
	if err != nil {
		return 0, err
	}
	u.greet(s)
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	err = s.Dial(dctx)
	cancel()
	if err != nil {
		u.greet(nil)
		return 0, err
	}
	start := time.Now()
	u.cfg.Log.Info("connected to the cloud", "seq", b.Seq)
	if old := u.publish(s); old != nil {
		u.wg.Go(func() {
			old.Leave(ctx)
			u.cfg.Log.Info("the session before this one is over", "err", old.Err())
		})
	}
	ended := make(chan error, 1)
	u.wg.Go(func() { ended <- u.serve(ctx, s) })
	select {
	case err = <-ended:
	case <-s.GoingAway():
		u.search()
		err = errGoingAway
	}
	return time.Since(start), err
}

// serve hands on the streams of a session until it ends.
func (u *Uplink) serve(ctx context.Context, s Session) error {
	for {
		st, err := s.Accept(ctx)
		if err != nil {
			break
		}
		u.deliver(st)
	}
	// What was written and not delivered is lost here; nothing that matters relies
	// on it, since it is not acknowledged either.
	err := s.Close(wire.CodeGoingAway, "the agent stops")
	u.ended(s)
	return errors.Join(s.Err(), err)
}

// greet makes s, which may be nil, the session that is being dialed.
func (u *Uplink) greet(s Session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.greeting = s; s != nil && u.session == nil {
		u.changedLocked()
	}
}

// publish makes s the session, and gives the one that it replaces.
func (u *Uplink) publish(s Session) (old Session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	old, u.session, u.greeting = u.session, s, nil
	if old == nil {
		u.since, u.lastErr = time.Now(), nil
	}
	u.live[s] = struct{}{}
	u.searching = false
	u.changedLocked()
	return old
}

// ended forgets a session.
func (u *Uplink) ended(s Session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.live, s)
	if u.session == s {
		u.session, u.searching, u.since = nil, true, time.Now()
		u.changedLocked()
	}
}

func (u *Uplink) search() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.searching = true
}

func (u *Uplink) changedLocked() {
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
	u.over = true
	u.changedLocked()
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

// networkChanged makes sessions prove themselves, and ends a pause.
func (u *Uplink) networkChanged() {
	u.mu.Lock()
	live := slices.Collect(maps.Keys(u.live))
	searching := u.searching
	u.mu.Unlock()
	for _, s := range live {
		s.Check()
	}
	if !searching {
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
	case errors.Is(err, errGoingAway):
		log.Info("the proxy goes away; the session moves on")
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
