package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/bench/tunnel/system"
)

// flood begins a stream of bulk, and another when it breaks.
func (a *agent) flood(ctx context.Context, p FloodPlan) error {
	service := system.Sink
	if p.Down {
		service = system.Source
	}
	begun := make(chan struct{})
	var once sync.Once
	go func() {
		for {
			conn, err := a.keeper.Open(ctx, system.Bulk)
			if err != nil {
				return
			}
			if _, err := conn.Write([]byte{service}); err == nil {
				once.Do(func() { close(begun) })
				if p.Down {
					_ = system.Drain(conn, &a.flooded) // ends with the stream
				} else {
					_ = system.Flood(conn)
				}
			}
			go func() { _ = conn.Close() }()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}()
	select {
	case <-begun:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// first times new connections, in milliseconds.
func first(ctx context.Context, p FirstPlan) ([]float64, error) {
	sys, err := system.Find(p.System)
	if err != nil {
		return nil, err
	}
	issuer, err := p.Authority.Issuer()
	if err != nil {
		return nil, err
	}
	conf, err := issuer.Client("edge-1", nil)
	if err != nil {
		return nil, err
	}
	count := p.Count
	if p.Resumed {
		// The first one leaves something for the others.
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		count++
	}
	times := []float64{}
	begin := time.Now()
	for i := 0; i < count && (i == 0 || time.Since(begin) < p.Total); i++ {
		took, err := firstByte(ctx, sys, system.Dial{Address: p.Address, TLS: conf}, p.Timeout)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case p.Resumed && i == 0:
			continue
		case err != nil:
			took = p.Timeout
		}
		times = append(times, float64(took)/float64(time.Millisecond))
	}
	return times, nil
}

// firstByte makes a connection, asks something on it, and waits for the answer.
// A connection that fails is tried again, as its user would.
func firstByte(ctx context.Context, sys system.System, d system.Dial, timeout time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dial := sys.Dial
	if sys.Begin != nil {
		dial = sys.Begin
	}
	begin := time.Now()
	for n := 1; ; n++ {
		dialed := time.Now()
		s, err := dial(ctx, d)
		if err == nil {
			// A session that hangs ends by this, and so does the exchange on it.
			stop := context.AfterFunc(ctx, func() { _ = s.Close() })
			conn, err := s.Open(ctx, system.Interactive)
			if err == nil {
				err = exchange(conn)
			}
			took := time.Since(begin)
			stop()
			_ = s.Close() // it has done its part
			if err == nil {
				return took, nil
			}
		}
		select {
		case <-time.After(sys.Backoff(n, time.Since(dialed))):
		case <-ctx.Done():
			return 0, fmt.Errorf("no answer within %s: %w", timeout, ctx.Err())
		}
	}
}

// many makes sessions and keeps them, and gives how many a second it made.
func (a *agent) many(ctx context.Context, p ManyPlan) (float64, error) {
	sys, err := system.Find(p.System)
	if err != nil {
		return 0, err
	}
	issuer, err := p.Authority.Issuer()
	if err != nil {
		return 0, err
	}
	configs := make([]*tls.Config, p.Count)
	for i := range configs {
		// Each edge has a name and a key of its own.
		if configs[i], err = issuer.Client(fmt.Sprintf("edge-%d", i+1), nil); err != nil {
			return 0, err
		}
	}
	a.kept = make([]system.Session, p.Count)
	begin := time.Now()
	var g errgroup.Group
	g.SetLimit(p.Parallel)
	for i, conf := range configs {
		g.Go(func() error {
			s, err := sys.Dial(ctx, system.Dial{Address: p.Address, TLS: conf})
			if err != nil {
				return fmt.Errorf("session %d: %w", i+1, err)
			}
			a.kept[i] = s
			conn, err := s.Open(ctx, system.Interactive)
			if err != nil {
				return fmt.Errorf("session %d: %w", i+1, err)
			}
			if err := exchange(conn); err != nil {
				return fmt.Errorf("session %d: %w", i+1, err)
			}
			return conn.Close()
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return float64(p.Count) / time.Since(begin).Seconds(), nil
}
