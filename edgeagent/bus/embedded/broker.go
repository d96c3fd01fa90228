package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/edgeagent/bus"
)

const (
	// DefaultMaxClients is how many clients there may be.
	DefaultMaxClients = 32
	// strangers is how many connections there may be beside, that have not said who
	// they are.
	strangers = 8
	// maxPacket bounds what a client sends: a command and its topic.
	maxPacket = bus.MaxCommand + 4<<10
	// pending bounds the messages that wait for a client. mochi-mqtt has some 700 bytes
	// for each beside the payload.
	pending = 2048
	// inflight bounds the messages of QoS 1 and 2 that wait for acknowledgement, in each
	// direction.
	inflight = 64
	// firstListen and lastListen bound the wait before the next attempt to listen.
	firstListen = time.Second
	lastListen  = 30 * time.Second
	// messageExpiry is how long such a message is kept, in seconds.
	messageExpiry = 300
)

// Config is what a Broker needs.
type Config struct {
	// Listen is a TCP address, HOST:PORT. Required.
	Listen string
	// CertFile and KeyFile have it speak TLS; they are read anew for each connection.
	CertFile, KeyFile string
	// UsersFile says who may do what. Required.
	UsersFile string
	// MaxClients is how many there may be; zero is DefaultMaxClients.
	MaxClients int
	// Node and Version are what the broker says of this edge.
	Node, Version string
	// Command takes commands and does not block. Required.
	Command func(bus.Command)
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Broker implements bus.Broker.
type Broker struct {
	cfg     Config
	log     *slog.Logger
	users   *users
	server  *mqtt.Server
	command func(bus.Command)
	tcp     *listener

	denied, slow atomic.Uint64

	mu       sync.RWMutex // guards the following field
	retained map[string][]byte
}

// Stats are what a Broker has seen since it was made.
type Stats struct {
	// Clients are connected now.
	Clients int
	// Denied are connections and messages that nobody had the right to, Refused
	// connections beyond the bound, Slow clients that were cut off.
	Denied, Refused, Slow uint64
}

// New reads the users and the certificate, and opens nothing.
func New(cfg Config) (*Broker, error) {
	if cfg.Listen == "" || cfg.UsersFile == "" || cfg.Command == nil {
		return nil, errors.New("broker config: Listen, UsersFile and Command are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxClients == 0 {
		cfg.MaxClients = DefaultMaxClients
	}
	b := &Broker{cfg: cfg, log: cfg.Log, command: cfg.Command, retained: make(map[string][]byte)}
	var err error
	if b.users, err = loadUsers(cfg.UsersFile, cfg.Log); err != nil {
		return nil, err
	}
	var conf *tls.Config
	if cfg.CertFile != "" {
		load := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
			return &cert, err
		}
		if _, err := load(nil); err != nil {
			return nil, fmt.Errorf("certificate of the local bus: %w", err)
		}
		conf = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: load}
	}
	b.tcp = &listener{tls: conf, most: cfg.MaxClients + strangers, log: cfg.Log, conns: make(map[*conn]struct{})}
	return b, nil
}

// Listen begins to listen, if Run is not to.
func (b *Broker) Listen() error {
	tcp, err := net.Listen("tcp", b.cfg.Listen)
	if err != nil {
		return fmt.Errorf("local bus: %w: bus.listen must be a free address of this machine", err)
	}
	b.tcp.Listener = tcp
	return nil
}

// listen tries until it can: the address may be one of a network that comes later, and the
// agent has other work. It gives false when ctx has ended.
func (b *Broker) listen(ctx context.Context) bool {
	for wait := firstListen; b.tcp.Listener == nil; wait = min(2*wait, lastListen) {
		err := b.Listen()
		if err == nil {
			break
		}
		b.log.Error("local bus has no address; it is tried again", "error", err, "wait", wait)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
	}
	return true
}

// newServer is mochi-mqtt with bounds. Its own log would have passwords in it.
func (b *Broker) newServer() (*mqtt.Server, error) {
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MaximumClients = int64(b.cfg.MaxClients)
	limits.MaximumMessageExpiryInterval = messageExpiry
	limits.MaximumClientWritesPending = pending
	limits.MaximumSessionExpiryInterval = 0
	limits.MaximumPacketSize = maxPacket
	limits.ReceiveMaximum = inflight
	limits.MaximumInflight = inflight
	limits.TopicAliasMaximum = 0
	limits.SharedSubAvailable = 0
	limits.Compatibilities.NoInheritedPropertiesOnAck = true
	s := mqtt.New(&mqtt.Options{
		Capabilities: limits, Logger: slog.New(slog.DiscardHandler), InlineClient: true,
		SysTopicResendInterval: math.MaxInt32, // it stops the world to measure memory
	})
	if err := s.AddHook(&hook{b: b}, nil); err != nil {
		return nil, err
	}
	return s, s.AddListener(b.tcp)
}

// Addr is where the broker listens, after Listen.
func (b *Broker) Addr() net.Addr { return b.tcp.Addr() }

// Stats may be asked for at any time.
func (b *Broker) Stats() Stats {
	b.tcp.mu.Lock()
	defer b.tcp.mu.Unlock()
	return Stats{Clients: len(b.tcp.conns), Denied: b.denied.Load(), Refused: b.tcp.refused.Load(), Slow: b.slow.Load()}
}

// Run serves until ctx ends, with run beside it: what publishes.
func (b *Broker) Run(ctx context.Context, run func(context.Context, bus.Broker) error) error {
	if !b.listen(ctx) {
		return nil
	}
	var err error
	if b.server, err = b.newServer(); err != nil {
		return errors.Join(err, b.tcp.Listener.Close())
	}
	if err := b.server.Serve(); err != nil {
		return errors.Join(err, b.server.Close())
	}
	b.log.Info("local bus is up", "listen", b.Addr().String(), "tls", b.tcp.tls != nil)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.users.watch(ctx, b.dropStrangers) })
	g.Go(func() error {
		edge := bus.Message{Topic: bus.EdgeTopic(b.cfg.Node), Payload: bus.EdgePayload(true, b.cfg.Version), Retain: true}
		if err := b.Publish(ctx, edge); err != nil {
			return err
		}
		return run(ctx, b)
	})
	err = g.Wait()
	return errors.Join(err, b.server.Close())
}

// dropStrangers ends the connections of who is not what the file says now.
func (b *Broker) dropStrangers() {
	for _, cl := range b.server.Clients.GetByListener(b.tcp.ID()) {
		if c := connOf(cl); c != nil && !b.users.current(c.account) {
			b.log.Info("client of the local bus has other rights now, and has to connect again", "client", cl.ID)
			cl.Stop(packets.ErrNotAuthorized)
		}
	}
}

// Publish implements bus.Broker.
func (b *Broker) Publish(_ context.Context, m bus.Message) error {
	if m.Retain {
		b.mu.Lock()
		if len(m.Payload) == 0 {
			delete(b.retained, m.Topic)
		} else {
			b.retained[m.Topic] = m.Payload
		}
		b.mu.Unlock()
	}
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish},
		TopicName:   m.Topic, Payload: m.Payload,
		Properties: packets.Properties{CorrelationData: m.Correlation},
	}
	if m.Sure {
		// With QoS 1 mochi-mqtt waits for a client that is being written to, 10 s at
		// most: so values go with QoS 0.
		pk.FixedHeader.Qos, pk.PacketID = 1, 1
	}
	own, ok := b.server.Clients.Get(mqtt.InlineClientId)
	if !ok {
		return errors.New("the broker's own client is missing")
	}
	return b.server.InjectPacket(own, pk)
}

// feed writes what is retained and matches to a client, in its own goroutine.
func (b *Broker) feed(cl *mqtt.Client, filters []string) {
	b.mu.RLock()
	var topics []string
	for topic := range b.retained {
		if covered(filters, topic) {
			topics = append(topics, topic)
		}
	}
	b.mu.RUnlock()
topics:
	for _, topic := range topics {
		// What is published meanwhile is retained before it is sent, so a message that
		// is still retained when it has been written is none that came too late.
		for written := []byte(nil); ; {
			b.mu.RLock()
			payload := b.retained[topic]
			b.mu.RUnlock()
			switch {
			case len(payload) == 0 && len(written) == 0, len(payload) > 0 && len(written) > 0 && &payload[0] == &written[0]:
				continue topics
			}
			err := cl.WritePacket(packets.Packet{
				FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: true},
				TopicName:   topic, Payload: payload, Created: time.Now().Unix(),
			})
			if err != nil && !errors.Is(err, packets.ErrPacketTooLarge) {
				return // it has gone
			}
			written = payload
		}
	}
}
