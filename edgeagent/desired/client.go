package desired

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// maxFrame is the bound of PROTOCOL.md for frames on this stream.
	maxFrame = 4 << 20
	// maxHaveBytes is where a Have frame is cut: large enough that its header costs
	// nothing, small enough to be built in memory without notice.
	maxHaveBytes = 32 << 10
)

// Config is what a Client needs.
type Config struct {
	// Store and Dialer are required.
	Store  *store.Store
	Dialer uplink.Dialer
	// Wake is called with the key of each object that was stored or deleted: who
	// uses it is the callee's to know. It must not block. May be nil.
	Wake func(key string)
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Stats tells how far a Client is.
type Stats struct {
	// Synced says that the store held all that the cloud wanted at some moment of
	// the stream that is open now.
	Synced bool
	// Upserts and Deletes count what was stored, Batches the syncs it took.
	Upserts, Deletes, Batches uint64
	// Rejected counts values that could not be used; the last is in LastRejected.
	Rejected     uint64
	LastRejected string
	// Streams counts the streams that were opened.
	Streams uint64
}

// Client is the edge's half of the desired stream.
type Client struct {
	store  *store.Store
	dialer uplink.Dialer
	wake   func(key string)
	log    *slog.Logger

	mu    sync.Mutex // guards the following fields
	stats Stats
}

// New checks cfg. Run does the work.
func New(cfg Config) (*Client, error) {
	if cfg.Store == nil || cfg.Dialer == nil {
		return nil, errors.New("desired config: Store and Dialer are required")
	}
	if cfg.Wake == nil {
		cfg.Wake = func(string) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{store: cfg.Store, dialer: cfg.Dialer, wake: cfg.Wake, log: cfg.Log}, nil
}

// Stats gives the counters.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

func (c *Client) update(f func(s *Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.stats)
}

// Run keeps one stream open until ctx ends, or the store fails.
func (c *Client) Run(ctx context.Context) error {
	k := uplink.Keeper{
		Dialer: c.dialer, Kind: wire.KindDesired, Failed: c.store.Err, Log: c.log,
		Serve: func(ctx context.Context, conn net.Conn) (bool, error) {
			err := c.serve(ctx, conn)
			synced := c.Stats().Synced
			c.update(func(s *Stats) { s.Synced = false })
			return synced, err
		},
	}
	return k.Run(ctx)
}

// serve works on one stream until it fails.
func (c *Client) serve(ctx context.Context, conn net.Conn) error {
	c.update(func(s *Stats) { s.Streams++ })
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close() //nolint:errcheck // the stream is done, one way or the other

	if err := c.sendHave(conn); err != nil {
		return err
	}
	p := newPending()
	var wg sync.WaitGroup
	wg.Go(func() { p.end(c.read(ctx, conn, p)) })
	err := c.apply(ctx, conn, p)
	cancel()
	_ = conn.Close()
	wg.Wait()
	return err
}

// sendHave says what the store holds.
func (c *Client) sendHave(w io.Writer) error {
	var have wire.Have
	size := 0
	var failed error
	err := c.store.Versions("", func(e store.Entry) bool {
		have.Entries = append(have.Entries, wire.Entry{Key: e.Key, Version: e.Version})
		if size += len(e.Key) + len(e.Version); size < maxHaveBytes {
			return true
		}
		failed = wire.Write(w, &have)
		have.Entries, size = have.Entries[:0], 0
		return failed == nil
	})
	if err := errors.Join(failed, err); err != nil {
		return err
	}
	have.Last = true
	return wire.Write(w, &have)
}

// read puts what comes into p until the stream ends.
func (c *Client) read(ctx context.Context, conn io.Reader, p *pending) error {
	r := wire.NewReader(bufio.NewReader(conn), maxFrame)
	for {
		f, err := r.Next()
		if err != nil {
			return err
		}
		var add func(b *batch)
		switch f := f.(type) {
		case *wire.Upsert:
			add = c.upsert(f)
		case *wire.Delete:
			add = func(b *batch) {
				b.frames++
				b.seq, b.hasSeq = f.Seq, true
				b.changes[f.Key] = change{deleted: true}
			}
		case *wire.Synced:
			add = func(b *batch) { b.synced = true }
		default:
			continue // nothing else comes down by PROTOCOL.md; skip it as unknown
		}
		if err := p.put(ctx, add); err != nil {
			return err
		}
	}
}

func (c *Client) upsert(f *wire.Upsert) func(b *batch) {
	seq, size := f.Seq, len(f.Value)
	if err := check(f.Key, f.Value); err != nil {
		c.reject(f.Key, err)
		return func(b *batch) { b.frames++; b.seq, b.hasSeq = seq, true }
	}
	// The frame's bytes belong to the reader.
	o := store.Object{Key: f.Key, Version: f.Version, Value: append([]byte(nil), f.Value...)}
	return func(b *batch) {
		b.frames++
		b.bytes += size
		b.seq, b.hasSeq = seq, true
		b.changes[o.Key] = change{object: o}
	}
}

func (c *Client) reject(key string, err error) {
	c.log.Error("desired object can't be used and is not stored", "key", key, "error", err)
	c.update(func(s *Stats) {
		s.Rejected++
		s.LastRejected = fmt.Sprintf("%s: %v", key, err)
	})
}

// apply stores batches, acknowledges them and wakes whom they concern.
func (c *Client) apply(ctx context.Context, conn io.Writer, p *pending) error {
	for {
		b, err := p.take(ctx)
		if err != nil {
			return err
		}
		changes := b.store()
		if len(b.changes) > 0 {
			if err := c.store.Apply(changes); err != nil {
				return err
			}
			for key := range b.changes {
				c.wake(key)
			}
		}
		if b.synced {
			if err := markSynced(c.store); err != nil {
				return err
			}
		}
		c.update(func(s *Stats) {
			s.Upserts += uint64(len(changes.Upserts))
			s.Deletes += uint64(len(changes.Deletes))
			if len(b.changes) > 0 {
				s.Batches++
			}
			if b.synced {
				s.Synced = true
			}
		})
		if !b.hasSeq {
			continue
		}
		if err := wire.Write(conn, &wire.Ack{Seq: b.seq, Step: wire.StepStored}); err != nil {
			return err
		}
	}
}
