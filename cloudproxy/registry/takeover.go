package registry

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// newer reports whether a session that arrives now takes the place of old. Of one
// start of the agent the later dial wins, in whatever order they arrive; of two
// starts the one that arrives later does, since only it can be alive.
func newer(arrived, old wire.Hello) bool {
	return arrived.Incarnation != old.Incarnation || arrived.Seq >= old.Seq
}

// run keeps one session's place in the table and serves its streams.
func (r *Registry) run(ctx context.Context, s *tunnel.Session) {
	node := s.Peer().Node
	log := r.cfg.Log.With("edge", node, "seq", s.Hello().Seq)
	changed := s.Changed() // from before it is in the table, so that no change is missed
	old, ok := r.take(node, s)
	if !ok {
		log.Debug("session is older than the one that is there")
		_ = s.Close(wire.CodeReplaced, "a newer session is here already") // never fails
		return
	}
	if old != nil {
		log.Info("session replaced", "old_seq", old.Hello().Seq, "old_remote", address(old.Stats().RemoteAddr))
		r.metrics.replaced.Inc()
		r.wg.Go(func() { _ = old.Close(wire.CodeReplaced, "a newer session came") }) // never fails
	}
	if r.cfg.Refuse != nil {
		if code, text := r.cfg.Refuse(s.Peer(), s.Certificate()); code != wire.CodeOK {
			_ = s.Close(code, text) // never fails
			r.left(node, s)
			log.Info("session refused", "remote", address(s.Stats().RemoteAddr), "code", code)
			return
		}
	}
	log.Info("edge connected", "remote", address(s.Stats().RemoteAddr), "agent", s.Hello().AgentVersion)
	r.metrics.tunnel.add(s)
	r.serve(ctx, s, func() { r.follow(s, changed, log) })
	r.metrics.tunnel.remove(s)
	r.left(node, s)
	log.Info("edge disconnected", "err", s.Err())
}

// take puts s into the table, and gives the session that was there.
func (r *Registry) take(node string, s *tunnel.Session) (old *tunnel.Session, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.edges[node]
	if e == nil {
		e = &edge{}
		r.edges[node] = e
	}
	if e.session != nil && !newer(s.Hello(), e.session.Hello()) {
		return nil, false
	}
	old, e.session = e.session, s
	r.changedLocked()
	return old, true
}

// left takes s out of the table, unless another has taken its place.
func (r *Registry) left(node string, s *tunnel.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.edges[node]; e != nil && e.session == s {
		e.session, e.since = nil, time.Now()
		// One that ends because nobody came back was lost when its link was.
		if attached, since := s.Attached(); !attached {
			e.since = since
		}
		r.changedLocked()
	}
}

// follow wakes those who wait for a change whenever s loses its link or gets
// another. It returns when s has ended.
func (r *Registry) follow(s *tunnel.Session, changed <-chan struct{}, log *slog.Logger) {
	for {
		select {
		case <-changed:
		case <-s.Done():
			return
		}
		changed = s.Changed()
		r.mu.Lock()
		r.changedLocked()
		r.mu.Unlock()
		if stats := s.Stats(); stats.Attached {
			log.Info("edge has a link again", "link", stats.Link, "remote", address(stats.RemoteAddr))
		} else if s.Err() == nil {
			log.Info("edge has lost its link", "streams", stats.Streams)
		}
	}
}

// address prints what may be missing: a session without a link need not have one.
func address(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

func (r *Registry) changedLocked() {
	close(r.change)
	r.change = make(chan struct{})
}

// serve hands the session's streams to handlers until it or ctx ends, closes it,
// and returns when all handlers and beside have. beside ends with the session.
func (r *Registry) serve(ctx context.Context, s *tunnel.Session, beside func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(beside)
	defer cancel()
	// Before the wait, since handlers hang in reads of its streams.
	defer func() { _ = s.Close(wire.CodeGoingAway, "the proxy shuts down") }() // never fails
	room := make(chan struct{}, r.cfg.MaxHandlers)
	for {
		st, err := s.Accept(ctx)
		if err != nil {
			return
		}
		r.mu.Lock()
		h := r.handlers[st.Kind()]
		r.mu.Unlock()
		if h == nil {
			st.Reset(wire.CodeUnsupported)
			continue
		}
		select {
		case room <- struct{}{}:
		default:
			st.Reset(wire.CodeTooMany)
			continue
		}
		wg.Go(func() {
			defer func() { <-room }()
			r.handle(ctx, s.Peer().Node, st, h)
		})
	}
}

func (r *Registry) handle(ctx context.Context, node string, st *tunnel.Stream, h Handler) {
	err := h(ctx, node, st)
	if err == nil {
		_ = st.Close() // a session that has ended meanwhile is no news here
		return
	}
	code := wire.CodeInternal
	if chosen, ok := errors.AsType[*CodeError](err); ok {
		code = chosen.Code
	}
	st.Reset(code)
	if moved, ok := errors.AsType[*tunnel.StreamError](err); ok && moved.Code == wire.CodeGoingAway {
		return // the edge opens it again on another session
	}
	if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		r.cfg.Log.Warn("stream of edge failed", "edge", node, "kind", st.Kind().String(), "err", err)
	}
}
