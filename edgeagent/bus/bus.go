package bus

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	fielddevices "github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/edgeagent/devices"
)

// Message is what a Broker publishes.
type Message struct {
	Topic   string
	Payload []byte
	// Retain keeps the message for who subscribes later; an empty payload ends that.
	Retain bool
	// Sure has it delivered at least once (QoS 1), else at most once (QoS 0).
	Sure bool
	// Correlation is that of a command of MQTT 5, nil for none.
	Correlation []byte
}

// Broker is where messages go.
type Broker interface {
	// Publish sends a message, or keeps a retained one until it can: an error, for one
	// that is not retained, says that it is lost. One goroutine calls it with what is
	// not Sure, another with what is.
	Publish(ctx context.Context, m Message) error
}

// Config is what a Bus needs.
type Config struct {
	// Live finds a device of this edge. Required.
	Live func(namespace, name string) (devices.Live, bool)
	// Node is the name of this edge. Required.
	Node string
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Stats are what a Bus has done since it was made.
type Stats struct {
	// Published are messages that a broker took.
	Published uint64
	// Dropped are samples and gaps that were replaced by newer ones, or had no room;
	// Unsent are messages that a broker could not take.
	Dropped, Unsent uint64
	// Commands that were carried out, that failed, and that nobody had a place for.
	Done, Failed, Busy uint64
}

// Bus implements devices.Bus.
type Bus struct {
	cfg      Config
	queue    *queue
	commands *commands

	published, unsent atomic.Uint64

	mu    sync.Mutex // guards the following field
	names map[devices.Name]struct{}
}

// New checks cfg. Run does the work.
func New(cfg Config) (*Bus, error) {
	if cfg.Live == nil || cfg.Node == "" {
		return nil, errors.New("bus config: Live and Node are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Bus{cfg: cfg, queue: newQueue(), commands: newCommands(cfg), names: make(map[devices.Name]struct{})}, nil
}

// Stats may be asked for at any time.
func (b *Bus) Stats() Stats {
	return Stats{
		Published: b.published.Load(), Unsent: b.unsent.Load(), Dropped: b.queue.lost(),
		Done: b.commands.done.Load(), Failed: b.commands.failed.Load(), Busy: b.commands.busy.Load(),
	}
}

// Device implements devices.Bus.
func (b *Bus) Device(n devices.Name, properties []string) {
	b.mu.Lock()
	b.names[n] = struct{}{}
	b.mu.Unlock()
	b.queue.put(item{kind: itemDevice, device: n, properties: slices.Clone(properties)})
}

// Samples implements devices.Bus.
func (b *Bus) Samples(n devices.Name, samples []fielddevices.Sample) {
	items := make([]item, len(samples))
	for i, s := range samples {
		items[i] = item{kind: itemSample, device: n, sample: s}
	}
	b.queue.put(items...)
}

// Gaps implements devices.Bus.
func (b *Bus) Gaps(n devices.Name, gaps []fielddevices.Gap) {
	items := make([]item, len(gaps))
	for i, g := range gaps {
		items[i] = item{kind: itemGap, device: n, gap: g}
	}
	b.queue.put(items...)
}

// Health implements devices.Bus.
func (b *Bus) Health(n devices.Name, h fielddevices.Health) {
	h.Counters = nil
	b.queue.put(item{kind: itemHealth, device: n, health: h})
}

// Removed implements devices.Bus.
func (b *Bus) Removed(n devices.Name) {
	b.mu.Lock()
	delete(b.names, n)
	b.mu.Unlock()
	b.queue.put(item{kind: itemRemoved, device: n})
}

// Received takes a command and never blocks. What becomes of it is told.
func (b *Bus) Received(c Command) {
	b.mu.Lock()
	_, ours := b.names[c.Device]
	b.mu.Unlock()
	if ours || !c.Shared {
		b.commands.receive(c)
	}
}

// Run sends what is queued to br, and carries commands out, until ctx ends.
func (b *Bus) Run(ctx context.Context, br Broker) error {
	p := &publisher{bus: b, broker: br, known: make(map[devices.Name]*retained)}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.commands.run(ctx) })
	g.Go(func() error {
		for {
			select {
			case a := <-b.commands.answers:
				for _, m := range a.messages() {
					b.send(ctx, br, m)
				}
			case <-ctx.Done():
				return nil
			}
		}
	})
	g.Go(func() error { return p.run(ctx) })
	return g.Wait()
}

func (b *Bus) send(ctx context.Context, br Broker, m Message) {
	if err := br.Publish(ctx, m); err != nil {
		b.unsent.Add(1)
		b.cfg.Log.Debug("message of the bus is lost", "topic", m.Topic, "error", err)
		return
	}
	b.published.Add(1)
}

// retained is what a broker retains of a device.
type retained struct {
	values map[string]time.Time // by property: the time of the value
	health []byte
}

// publisher makes messages of items.
type publisher struct {
	bus    *Bus
	broker Broker
	known  map[devices.Name]*retained
}

func (p *publisher) run(ctx context.Context) error {
	for {
		for ctx.Err() == nil {
			i, ok := p.bus.queue.take()
			if !ok {
				break
			}
			for _, m := range p.messages(i) {
				p.bus.send(ctx, p.broker, m)
			}
		}
		select {
		case <-p.bus.queue.bell:
		case <-ctx.Done():
			return nil
		}
	}
}

// messages are those of an item.
func (p *publisher) messages(i item) []Message {
	r := p.known[i.device]
	if r == nil {
		r = &retained{values: make(map[string]time.Time)}
		p.known[i.device] = r
	}
	switch i.kind {
	case itemSample:
		s := i.sample
		if last := r.values[s.Property]; !s.Time().IsZero() && s.Time().Before(last) {
			return []Message{{Topic: deviceTopic(i.device, kindHistory, s.Property), Payload: valuePayload(s)}}
		}
		r.values[s.Property] = s.Time()
		return []Message{{Topic: deviceTopic(i.device, kindValue, s.Property), Payload: valuePayload(s), Retain: true}}
	case itemGap:
		return []Message{{Topic: deviceTopic(i.device, kindGap), Payload: gapPayload(i.gap)}}
	case itemHealth:
		text := healthPayload(p.bus.cfg.Node, i.health)
		if bytes.Equal(text, r.health) {
			return nil
		}
		r.health = text
		return []Message{{Topic: deviceTopic(i.device, kindHealth), Payload: text, Retain: true}}
	case itemDevice:
		return r.clear(i.device, i.properties)
	case itemRemoved:
		delete(p.known, i.device)
		list := r.clear(i.device, nil)
		return append(list, Message{Topic: deviceTopic(i.device, kindHealth), Retain: true})
	}
	return nil
}

// clear ends what is retained of all properties but those.
func (r *retained) clear(n devices.Name, but []string) (list []Message) {
	keep := make(map[string]bool, len(but))
	for _, name := range but {
		keep[name] = true
	}
	for name := range r.values {
		if !keep[name] {
			delete(r.values, name)
			list = append(list, Message{Topic: deviceTopic(n, kindValue, name), Retain: true})
		}
	}
	return list
}
