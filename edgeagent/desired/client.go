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
	"time"

	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel/dictionary"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// maxFrame is the bound of PROTOCOL.md for frames on this stream.
	maxFrame = 4 << 20
	// roomPause is how long room on the disk may take to be enough.
	roomPause = time.Second
)

// Config is what a Client needs.
type Config struct {
	// Store and Dialer are required.
	Store  *store.Store
	Dialer uplink.Dialer
	// Wake is called with the key of each object that was stored or deleted: who
	// uses it is the callee's to know. It must not block. May be nil.
	Wake func(key string)
	// Steps knows how far the objects have come. Nil tells the cloud
	// nothing beyond what is stored.
	Steps *Steps
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
	steps  *Steps
	log    *slog.Logger
	// decoder is of the one goroutine that reads the stream.
	decoder *dictionary.Decoder

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
	decoder, err := dictionary.NewDecoder()
	if err != nil {
		return nil, fmt.Errorf("desired: %w", err)
	}
	return &Client{store: cfg.Store, dialer: cfg.Dialer, wake: cfg.Wake, steps: cfg.Steps, log: cfg.Log, decoder: decoder}, nil
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

	buckets, err := c.sendDigest(conn)
	if err != nil {
		return err
	}
	c.steps.begin()
	p := newPending()
	var wg sync.WaitGroup
	wg.Go(func() { p.end(c.read(ctx, conn, p, buckets)) })
	err = c.apply(ctx, conn, p)
	cancel()
	_ = conn.Close()
	wg.Wait()
	return err
}

// read puts what comes into p until the stream ends. The digest that was sent had
// so many buckets.
func (c *Client) read(ctx context.Context, conn io.ReadWriter, p *pending, buckets int) error {
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
		case *wire.Want:
			if err := c.sendHave(conn, f, buckets); err != nil {
				return err
			}
			continue
		default:
			continue // nothing else comes down by PROTOCOL.md; skip it as unknown
		}
		if err := p.put(ctx, add); err != nil {
			return err
		}
	}
}

func (c *Client) upsert(f *wire.Upsert) func(b *batch) {
	seq := f.Seq
	var resourceVersion string
	// The frame's bytes belong to the reader; these do not.
	value, err := c.decoder.Decode(f.Encoding, f.Value)
	if err == nil {
		resourceVersion, err = check(f.Key, value)
	}
	if err != nil {
		c.reject(f.Key, err)
		return func(b *batch) { b.frames++; b.seq, b.hasSeq = seq, true }
	}
	o, size := store.Object{Key: f.Key, Version: f.Version, Value: value}, len(value)
	return func(b *batch) {
		b.frames++
		b.bytes += size
		b.seq, b.hasSeq = seq, true
		b.changes[o.Key] = change{object: o, resourceVersion: resourceVersion}
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
		b, err := p.take(ctx, c.steps.rung())
		if err != nil {
			return err
		}
		changes := b.store()
		if len(b.changes) > 0 {
			if err := c.keep(ctx, changes); err != nil {
				return err
			}
			c.steps.stored(b.changes)
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
		if b.hasSeq {
			if err := wire.Write(conn, &wire.Ack{Seq: b.seq, Step: wire.StepStored}); err != nil {
				return err
			}
		}
		// Behind the Ack: what it is about must be known to be stored.
		if err := c.steps.tell(conn); err != nil {
			return err
		}
	}
}

// keep stores changes. While the disk is full it waits: to end the stream would make
// the cloud send all of them again, and again.
func (c *Client) keep(ctx context.Context, changes store.Batch) error {
	err := c.store.Apply(changes)
	if errors.Is(err, store.ErrDiskFull) && len(changes.Deletes) > 0 && len(changes.Upserts) > 0 {
		// What goes makes room for what comes.
		if c.store.Apply(store.Batch{Deletes: changes.Deletes}) == nil {
			changes.Deletes = nil
		}
	}
	for errors.Is(err, store.ErrDiskFull) {
		c.log.Warn("the disk is full; what the cloud wants waits for room", "error", err)
		if err := c.store.WaitRoom(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(roomPause):
		case <-ctx.Done():
			return ctx.Err()
		}
		err = c.store.Apply(changes)
	}
	return err
}
