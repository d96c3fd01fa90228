package external

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/edgeagent/bus"
)

const (
	// keepalive is in seconds.
	keepalive = 30
	// firstRetry and lastRetry bound the wait before the next connection.
	firstRetry = time.Second
	lastRetry  = time.Minute
	// inflight bounds the commands that the broker sends before they are acknowledged.
	inflight = 64
)

var errNotConnected = errors.New("there is no connection to the broker of the local bus")

// Config is what a Client needs.
type Config struct {
	// Broker is mqtt://HOST:PORT, or mqtts:// for TLS. Required.
	Broker string
	// CAFile has who signs the broker's certificate; "" is whom the machine trusts.
	CAFile string
	// UserName and PasswordFile are what the broker asks for, "" for nothing. The files
	// are read anew for each connection.
	UserName, PasswordFile string
	// Node and Version are this edge's.
	Node, Version string
	// Command takes commands and does not block. Required.
	Command func(bus.Command)
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Client implements bus.Broker. It keeps what is retained, since the broker may have
// forgotten it when it is back.
type Client struct {
	cfg    Config
	broker *url.URL
	log    *slog.Logger

	sending sync.Mutex // held while a retained message is sent, before mu

	mu       sync.Mutex // guards the following fields
	client   *paho.Client
	retained map[string][]byte
	cleared  map[string]struct{} // that the broker has to forget yet
}

// New checks cfg and connects to nothing.
func New(cfg Config) (*Client, error) {
	if cfg.Command == nil || cfg.Node == "" {
		return nil, errors.New("client config: Node and Command are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	u, err := url.Parse(cfg.Broker)
	if err != nil || u.Host == "" || u.Scheme != "mqtt" && u.Scheme != "mqtts" {
		return nil, fmt.Errorf("%q is not of the form mqtt://HOST:PORT or mqtts://HOST:PORT", cfg.Broker)
	}
	return &Client{
		cfg: cfg, broker: u, log: cfg.Log.With("broker", cfg.Broker),
		retained: make(map[string][]byte), cleared: make(map[string]struct{}),
	}, nil
}

// Connected reports whether there is a connection.
func (c *Client) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client != nil
}

// Run keeps the connection until ctx ends, with run beside it: what publishes.
func (c *Client) Run(ctx context.Context, run func(context.Context, bus.Broker) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return run(ctx, c) })
	g.Go(func() error {
		c.keep(ctx)
		return nil
	})
	return g.Wait()
}

func (c *Client) keep(ctx context.Context) {
	last := ""
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		began := time.Now()
		err := c.session(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case time.Since(began) > lastRetry:
			wait = firstRetry
		}
		if err.Error() != last {
			last = err.Error()
			c.log.Warn("no connection to the broker of the local bus; it is tried again", "error", err)
		}
		t := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// session connects and serves until the connection ends, or ctx.
func (c *Client) session(ctx context.Context) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		c.mu.Lock()
		c.client = nil
		c.mu.Unlock()
		_ = cl.Disconnect(&paho.Disconnect{}) // it may have gone, and ends its goroutines
	}()
	if err := c.subscribe(ctx, cl); err != nil {
		return err
	}
	if err := c.begin(ctx, cl); err != nil {
		return fmt.Errorf("publish what is retained: %w", err)
	}
	c.log.Info("connected to the broker of the local bus")
	select {
	case <-cl.Done():
		return errors.New("the broker ended the connection, or it is lost")
	case <-ctx.Done():
		// The last will is for those who can't say it.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, _ = cl.Publish(last, &paho.Publish{Topic: bus.EdgeTopic(c.cfg.Node), Payload: bus.EdgePayload(false, ""), Retain: true})
		return ctx.Err()
	}
}

// begin publishes what is retained, and only then what comes.
func (c *Client) begin(ctx context.Context, cl *paho.Client) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	if err := c.send(ctx, cl, bus.Message{Topic: bus.EdgeTopic(c.cfg.Node), Payload: bus.EdgePayload(true, c.cfg.Version), Retain: true}); err != nil {
		return err
	}
	c.mu.Lock()
	topics := make([]string, 0, len(c.cleared)+len(c.retained))
	for t := range c.cleared {
		topics = append(topics, t)
	}
	for t := range c.retained {
		topics = append(topics, t)
	}
	c.client = cl
	c.mu.Unlock()
	for _, t := range topics {
		if err := c.sendRetained(ctx, cl, t); err != nil {
			return err
		}
	}
	return nil
}

// sendRetained publishes what is retained now. sending is held.
func (c *Client) sendRetained(ctx context.Context, cl *paho.Client, topic string) error {
	c.mu.Lock()
	payload := c.retained[topic]
	c.mu.Unlock()
	if err := c.send(ctx, cl, bus.Message{Topic: topic, Payload: payload, Retain: true}); err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.cleared, topic)
	c.mu.Unlock()
	return nil
}

// Publish implements bus.Broker. A retained message is kept until there is a connection.
func (c *Client) Publish(ctx context.Context, m bus.Message) error {
	c.mu.Lock()
	cl := c.client
	if m.Retain {
		if len(m.Payload) > 0 {
			c.retained[m.Topic] = m.Payload
			delete(c.cleared, m.Topic)
		} else {
			delete(c.retained, m.Topic)
			c.cleared[m.Topic] = struct{}{}
		}
	}
	c.mu.Unlock()
	switch {
	case m.Retain && cl == nil:
		return nil
	case cl == nil:
		return errNotConnected
	case !m.Retain:
		return c.send(ctx, cl, m)
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	if err := c.sendRetained(ctx, cl, m.Topic); err != nil {
		c.log.Debug("retained message waits for a connection", "topic", m.Topic, "error", err)
	}
	return nil
}

// send publishes a message. What is not Sure is written, and nobody acknowledges it.
func (c *Client) send(ctx context.Context, cl *paho.Client, m bus.Message) error {
	p := &paho.Publish{Topic: m.Topic, Payload: m.Payload, Retain: m.Retain}
	if m.Sure {
		p.QoS = 1
	}
	if m.Correlation != nil {
		p.Properties = &paho.PublishProperties{CorrelationData: m.Correlation}
	}
	_, err := cl.Publish(ctx, p)
	return err
}

func (c *Client) subscribe(ctx context.Context, cl *paho.Client) error {
	s := &paho.Subscribe{}
	for _, f := range bus.CommandFilters() {
		// Retained ones are not wanted; of others it must be told whether they are to
		// be retained.
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: 1, RetainHandling: 2, RetainAsPublished: true, NoLocal: true})
	}
	if _, err := cl.Subscribe(ctx, s); err != nil {
		return fmt.Errorf("subscribe to commands: %w: the broker must let this edge's user read %v and write %s/#", err, bus.CommandFilters(), bus.Root)
	}
	return nil
}

// received takes what the broker sends. The filters let only commands in, but the broker
// is not trusted to.
func (c *Client) received(r paho.PublishReceived) (bool, error) {
	p := r.Packet
	t, ok := bus.ParseCommandTopic(p.Topic)
	if !ok {
		return true, nil
	}
	cmd := bus.Command{Target: t, Payload: p.Payload, Retained: p.Retain, Shared: true, From: "broker"}
	if p.Properties != nil {
		cmd.Correlation = p.Properties.CorrelationData
		if to := p.Properties.ResponseTopic; bus.ValidTopic(to) && !bus.Reserved(to) {
			cmd.Response = to
		}
	}
	c.cfg.Command(cmd)
	return true, nil
}
